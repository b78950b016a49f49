// One function for each page: `(route, latest numbers) -> { parts, update, stop }`.
import { ask, el, fail, go, href, Refused, say } from "/page/page.js";

export const TITLES = {
  "": "Overview", tasks: "Tasks", timeline: "Timeline", workflows: "Workflows",
  agents: "Agents and resources", questions: "Questions", schedules: "Schedules", events: "Events",
};
const STATES = ["running", "queued", "pending", "retrying", "blocked", "suspended",
  "completed", "failed", "cancelled"];
const FILTERS = [["id", "Id, with *"], ["type", "Type"], ["agent", "Agent"], ["owner", "Owner"], ["error", "Error"]];

// -- texts ------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en");
const count = (number) => whole.format(number ?? 0);
const state = (text) => el("span", { class: `state ${text}` }, text);
const name = (text) => el("span", { class: "name", dir: "auto" }, text.length > 300 ? `${text.slice(0, 300)}…` : text);
// Texts of ISO 8601, or seconds since 1970.
function when(given) {
  if (given === null || given === undefined || given === "") return "–";
  const moment = new Date(typeof given === "number" ? given * 1000 : given);
  return el("time", { datetime: moment.toISOString() }, moment.toLocaleString());
}
const taskLink = (id) => el("a", { href: href("task", id), class: "name", dir: "auto" }, id.length > 300 ? `${id.slice(0, 300)}…` : id);

function lasting(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds < 1e-3) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toPrecision(3)} ms`;
  if (seconds < 120) return `${seconds.toPrecision(3)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(1)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function table(heads, rows, empty) {
  if (!rows.length) return el("p", {}, empty);
  const numbers = heads.map((head) => head.startsWith("#"));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": heads.map((h) => h.replace("#", "")).join(", ") },
    el("table", {},
      el("thead", {}, el("tr", {}, heads.map((head, i) =>
        el("th", { scope: "col", class: numbers[i] ? "number" : null }, head.replace("#", ""))))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, i) =>
        el("td", { class: numbers[i] ? "number" : null }, cell)))))));
}

function every(ms, work) {
  let stopped = false;
  let timer = null;
  const run = async () => {
    if (!document.hidden) {
      try {
        await work();
      } catch (error) {
        if (error instanceof Refused && error.status === 401) fail(error);
      }
    }
    if (!stopped) timer = setTimeout(run, ms);
  };
  run();
  return () => { stopped = true; clearTimeout(timer); };
}

// Refills a part only when what it shows has changed: the focus and the reader's place stay.
function keeper(part) {
  let before = "";
  return (key, make) => {
    const text = JSON.stringify(key);
    if (text === before) return;
    before = text;
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    part.replaceChildren(...[make()].flat());
    if (focused) document.getElementById(focused)?.focus();
  };
}

const colour = (which) => getComputedStyle(document.documentElement).getPropertyValue(which).trim();

// -- pictures ---------------------------------------------------------------------

function canvasOf(height, label) {
  const canvas = el("canvas", { role: "img", "aria-label": label });
  canvas.style.height = `${height}px`;
  return canvas;
}

function prepared(canvas, height) {
  const scale = window.devicePixelRatio || 1;
  const width = Math.max(100, canvas.clientWidth);
  canvas.width = width * scale;
  canvas.height = height * scale;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.clearRect(0, 0, width, height);
  return [pen, width];
}

function drawRates(canvas, rates) {
  const [pen, width] = prepared(canvas, 120);
  const most = Math.max(1, ...rates.map(([good, bad]) => good + bad));
  const step = width / rates.length;
  rates.forEach(([good, bad], i) => {
    const high = (good / most) * 100;
    const low = (bad / most) * 100;
    pen.fillStyle = colour("--bar-completed");
    pen.fillRect(i * step, 118 - high, Math.max(1, step - 1), high);
    pen.fillStyle = colour("--bar-failed");
    pen.fillRect(i * step, 118 - high - low, Math.max(1, step - 1), low);
  });
  pen.fillStyle = colour("--ink");
  pen.font = "12px system-ui, sans-serif";
  pen.fillText(`${count(most)} a second`, 6, 14);
}

// -- overview ---------------------------------------------------------------------

async function overviewPage() {
  const tiles = el("div", { class: "tiles" });
  const rates = canvasOf(120, "Tasks that ended in each of the last 120 seconds");
  const ended = el("p", { class: "quiet" });
  const types = el("div");
  const causes = el("div");
  const checks = el("div");
  const keep = [tiles, causes, types, checks].map(keeper);
  return {
    parts: [el("h1", {}, "Overview"), tiles, el("h2", {}, "Ended, a second"), rates, ended,
      el("h2", {}, "Failures by cause"), causes, el("h2", {}, "Types of tasks"), types,
      el("h2", {}, "Health"), checks],
    update(said) {
      const numbers = said.statistics;
      keep[0](numbers.state_machine, () => STATES.map((each) =>
        el("a", { class: "tile", href: href("tasks", "", { state: each }) },
          state(each), el("b", { id: `count-${each}`, "data-heard": said.heard }, count(numbers.state_machine[each])))));
      drawRates(rates, said.rates);
      const minute = said.rates.slice(-60);
      const [good, bad] = [0, 1].map((i) => minute.reduce((sum, each) => sum + each[i], 0));
      ended.textContent = `In the last minute ${count(good)} completed and ${count(bad)} failed; ` +
        `${count(numbers.queue.processing)} run, ${count(numbers.queue.queued)} are queued.`;
      keep[1](numbers.failures, () => table(["Cause", "#Tasks"],
        Object.entries(numbers.failures).sort((a, b) => b[1] - a[1]).slice(0, 50)
          .map(([cause, many]) => [el("a", { href: href("tasks", "", { state: "failed" }) }, cause), count(many)]),
        "Nothing has failed."));
      keep[2](Object.entries(numbers.types).slice(0, 100), () => table(
        ["Type", "#Completed", "#Failed", "#Median", "#95 of 100"],
        Object.entries(numbers.types).slice(0, 100).map(([type, each]) => [
          el("a", { href: href("tasks", "", { type }), class: "name", dir: "auto" }, type),
          count(each.completed), count(each.failed), lasting(each.running?.p50), lasting(each.running?.p95)]),
        "No task has come yet."));
      keep[3](said.health.checks, () => table(["Component", "State", "Detail"],
        said.health.checks.map((each) => [each.component, state(each.status), each.detail]), ""));
    },
  };
}

// -- tasks ------------------------------------------------------------------------

async function tasksPage(route) {
  const query = route.query;
  const found = el("div");
  const keep = keeper(found);
  const fields = FILTERS.map(([key, words]) => el("label", { class: "field", for: `by-${key}` }, words,
    el("input", { id: `by-${key}`, name: key, value: query[key] || "" })));
  const states = el("select", { id: "by-state", name: "state" }, el("option", { value: "" }, "any"),
    STATES.map((each) => el("option", { value: each, selected: each === query.state }, each)));
  const form = el("form", {
    class: "row",
    onsubmit: (event) => {
      event.preventDefault();
      go("tasks", "", Object.fromEntries(new FormData(event.target)));
    },
  }, el("label", { class: "field", for: "by-state" }, "State", states), fields, el("button", {}, "Find"));
  const load = async () => {
    const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
    asked.set("limit", "100");
    const said = await ask(`/api/v1/tasks?${asked}`);
    keep(said, () => {
      const more = said.next ? el("p", {}, el("a", { href: href("tasks", "", { ...query, cursor: said.next }) }, "Later ones")) : null;
      return [table(["Task", "Type", "State", "Agent", "#Attempts", "Submitted", "Error"],
        said.tasks.map((task) => [taskLink(task.task_id), name(task.type), state(task.state), name(task.agent_id || "–"),
          count(task.attempts), when(task.submitted), name(errorLine(task))]),
        "No task is as you asked. With fewer conditions there may be some."), more].filter(Boolean);
    });
  };
  await load();
  const stop = every(1000, load);
  return { parts: [el("h1", {}, "Tasks"), form, found], stop };
}

const errorLine = (task) => task.error ? (typeof task.error === "string" ? task.error : `${task.error.type || ""}: ${task.error.message || ""}`).slice(0, 200) : "";

async function taskPage(route) {
  const id = encodeURIComponent(route.id);
  const path = `/api/v1/tasks/${id}`;
  const facts = el("div");
  const why = el("div");
  const history = el("div");
  const error = el("div");
  const log = el("pre", { tabindex: "0", "aria-label": "Output" });
  const logHead = el("h2", { hidden: true }, "Output");
  const buttons = el("div", { class: "row" });
  log.hidden = true;
  const keep = [facts, why, history, error, buttons].map(keeper);
  let live = true;
  const act = (words, verb, body) => el("button", {
    id: `do-${verb}`,
    onclick: async (event) => {
      event.target.disabled = true; // a second click changes nothing
      try {
        const said = await ask(`${path}/${verb}`, { method: "POST", body });
        say(said.changed === false ? "There was nothing to change." : "");
        await load();
      } catch (failed) {
        say(`${failed.message} ${failed.hint || ""}`);
      }
      event.target.disabled = false;
    },
  }, words);
  let next = null;
  const load = async () => {
    const task = await ask(path);
    keep[0](task, () => {
      const rows = [["State", state(task.state)], ["Type", name(task.type)], ["Agent", name(task.agent_id || "–")],
        ["Attempts", count(task.attempts)], ["Priority", String(task.priority)], ["Owner", name(task.owner || "–")],
        ["Submitted", when(task.submitted)], ["Started", when(task.started)], ["Ended", when(task.ended)]];
      if (task.stale) rows.push(["Stale", "what it depends on was run again since"]);
      if (task.progress !== null && task.progress !== undefined) rows.push(["Progress", name(JSON.stringify(task.progress))]);
      if (task.blocked_by?.length) rows.push(["Blocked by", task.blocked_by.map((each) => [taskLink(each), " "])]);
      rows.push(["Again, by hand", el("code", {}, `taskorch rerun ${location.origin} ${route.id}`)]);
      return el("dl", {}, rows.map(([word, value]) => [el("dt", {}, word), el("dd", {}, value)]));
    });
    const over = ["completed", "failed", "cancelled"].includes(task.state);
    keep[4]([task.state, live], () => live ? [
      over ? null : act("Cancel", "cancel", {}),
      over || task.state === "suspended" ? null : act("Suspend", "suspend", {}),
      task.state === "suspended" ? act("Resume", "resume", {}) : null,
      over ? act("Run again", "rerun", {}) : null,
      task.state === "blocked" ? act("Retry", "decision", { verdict: "retry" }) : null,
      task.state === "blocked" ? act("Give up", "decision", { verdict: "fail" }) : null,
    ].filter(Boolean) : []);
    keep[2](task.history, () => table(["When", "State", "Why"], (task.history || []).map((each) =>
      [when(each.at), state(each.state), name(String(each.reason || ""))]), "Nothing yet."));
    if (over) {
      const result = await ask(`${path}/result`).catch(() => null);
      keep[3](result, () => !result ? [] : result.error
        ? [el("h2", {}, "Error"), el("p", { class: "state failed" }, `${result.error.type}: ${result.error.message}`),
          result.error.hint ? el("p", {}, result.error.hint) : null, result.error.where ? el("p", {}, result.error.where) : null,
          result.error.traceback ? el("pre", { tabindex: "0", "aria-label": "Traceback" }, textOf(result.error.traceback)) : null].filter(Boolean)
        : [el("h2", {}, "Result"), el("pre", { tabindex: "0", "aria-label": "Result" }, textOf(result.result).slice(0, 20000))]);
    }
    const said = await ask(`${path}/explanation`).catch(() => null);
    keep[1](said?.text, () => said ? [el("h2", {}, "Why"), el("p", { class: "name" }, said.text)] : []);
    const part = await ask(`${path}/log${next === null ? "" : `?after=${next}`}`).catch(() => null);
    if (part?.there) {
      if (next === null || part.next < next) log.textContent = "";
      next = part.next;
      log.hidden = logHead.hidden = false;
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
      if (part.text) log.append(part.text);
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
  };
  await load();
  const stop = every(1000, load);
  return {
    parts: [el("h1", {}, "Task ", name(route.id)), buttons, facts, why, error, el("h2", {}, "History"), history, logHead, log],
    stop,
    update(said) { live = said.live; },
  };
}

const textOf = (value) => typeof value === "string" ? value : Array.isArray(value) && value.every((v) => typeof v === "string") ? value.join("") : JSON.stringify(value, null, 2);

// -- timeline ---------------------------------------------------------------------

async function timelinePage(route) {
  const canvas = canvasOf(200, "What each agent did; the table below says the same");
  const words = el("p", { class: "quiet" });
  const legend = el("p", { class: "quiet" });
  const list = el("div");
  const keep = keeper(list);
  let since = Number(route.query.since) || 0;
  let until = Number(route.query.until) || 0;
  let said = null;
  const load = async () => {
    const width = Math.min(4000, Math.max(100, Math.round(canvas.clientWidth || 1000)));
    said = await ask(`/api/v1/board/timeline?since=${since}&until=${until}&width=${width}`);
    draw();
  };
  const draw = () => {
    const tops = [];
    let top = 0;
    for (const rows of said.rows) { tops.push(top); top += rows * 12 + 20; }
    const [pen, width] = prepared(canvas, Math.max(60, Math.min(6000, top)));
    pen.font = "12px system-ui, sans-serif";
    said.agents.forEach((agent, i) => {
      pen.fillStyle = colour("--soft");
      pen.fillText(agent.slice(0, 80), 4, tops[i] + 12);
    });
    const colours = said.outcomes.map((each) => colour(`--bar-${each}`));
    for (const [lane, row, first, last, outcome] of said.rectangles) {
      pen.fillStyle = colours[outcome];
      pen.fillRect(first, tops[lane] + 16 + row * 12, Math.max(1, Math.min(width, last) - first + 0.5), 10);
    }
    const left = said.attempts_left_out + said.agents_left_out;
    words.textContent = `${count(said.attempts)} attempts from ${new Date(said.start * 1000).toLocaleString()}, over ${lasting(said.end - said.start)}` +
      (left ? `; ${count(said.attempts_left_out)} attempts and ${count(said.agents_left_out)} agents are not shown` : "") + ".";
    const many = said.agents.map((agent, i) => {
      const found = said.outcomes.map(() => 0);
      for (const each of said.rectangles) if (each[0] === i) found[each[4]] += each[5];
      return [name(agent), ...found.map(count)];
    });
    keep(said.rectangles.length > 20000 ? said.attempts : [said.agents, said.attempts], () =>
      table(["Agent", ...said.outcomes.map((each) => `#${each}`)], many, "Nothing has been done yet."));
  };
  const move = (from, to) => {
    const a = Math.max(0, from);
    go("timeline", "", { since: a.toFixed(6), until: Math.max(to, a + 1e-6).toFixed(6) });
  };
  const zoom = (by) => () => {
    if (!said) return;
    const middle = (said.start + said.end) / 2;
    const half = Math.min(5e8, Math.max(5e-7, ((said.end - said.start) / 2) * by));
    move(middle - half, middle + half);
  };
  const shift = (by) => () => said && move(said.start + by * (said.end - said.start), said.end + by * (said.end - said.start));
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let top = 0;
    said?.rows.forEach((rows, lane) => {
      const row = Math.floor((y - top - 16) / 12);
      const hit = said.rectangles.find((each) => each[0] === lane && each[1] === row && each[2] <= x && x <= each[3] + 1);
      if (row >= 0 && row < rows && hit) go("task", hit[6]);
      top += rows * 12 + 20;
    });
  });
  const buttons = [["Closer", zoom(0.5)], ["Farther", zoom(2)], ["Earlier", shift(-0.5)], ["Later", shift(0.5)],
    ["All", () => go("timeline")]].map(([text, act]) => el("button", { type: "button", onclick: act }, text));
  legend.append(...["running", "completed", "cancelled", "retrying", "failed"].flatMap((each) => {
    const mark = el("span", { "aria-hidden": "true" }, "■ ");
    mark.style.color = `var(--bar-${each})`;
    return [mark, `${each}  `];
  }));
  setTimeout(() => load().catch(fail), 0);
  const stop = until ? () => {} : every(1000, load);
  const resized = () => said && load().catch(() => {});
  addEventListener("resize", resized);
  return {
    parts: [el("h1", {}, "Timeline"), el("div", { class: "row" }, buttons), legend, canvas, words, list],
    stop() { stop(); removeEventListener("resize", resized); },
  };
}

// -- workflows --------------------------------------------------------------------

async function workflowsPage(route) {
  if (route.id) return oneWorkflow(route.id);
  const list = el("div");
  const keep = keeper(list);
  const load = async () => {
    const { workflow_ids: ids } = await ask("/api/v1/workflows");
    const shown = ids.slice(-50).reverse();
    const all = await Promise.all(shown.map((id) => ask(`/api/v1/workflows/${encodeURIComponent(id)}`)));
    keep(all, () => [table(["Run", "State", "#Completed", "In words"], all.map((each) => [
      el("a", { href: href("workflows", each.workflow_id), class: "name", dir: "auto" }, each.workflow_id),
      state(each.pause || each.state), `${Math.floor(each.percent)} %`, name(each.text)]), "No workflow has been started here."),
    ids.length > 50 ? el("p", {}, `${count(ids.length - 50)} earlier ones are not shown.`) : ""]);
  };
  await load();
  return { parts: [el("h1", {}, "Workflows"), list], stop: every(2000, load) };
}

async function oneWorkflow(id) {
  const path = `/api/v1/workflows/${encodeURIComponent(id)}`;
  const words = el("p");
  const picture = el("div", { class: "picture", tabindex: "0", role: "region", "aria-label": "Graph of the run" });
  const list = el("div");
  const phases = el("div");
  const keep = [words, picture, list, phases].map(keeper);
  const act = (text, verb) => el("button", {
    id: `do-${verb}`,
    onclick: async (event) => {
      event.target.disabled = true;
      try {
        await ask(`${path}/${verb}`, { method: "POST", body: {} });
        await load();
      } catch (failed) {
        say(`${failed.message} ${failed.hint || ""}`);
      }
      event.target.disabled = false;
    },
  }, text);
  const load = async () => {
    const said = await ask(path);
    keep[0](said.text, () => said.text);
    keep[2](said.tasks, () => table(["Task", "State"], Object.entries(said.tasks).slice(0, 2000).map(([task, each]) =>
      [taskLink(`${id}/${task}`), state(each)]), "It has no tasks."));
    keep[3](said.phases, () => Object.keys(said.phases || {}).length ? [el("h2", {}, "Phases"),
      table(["Phase", "State", "#Completed", "Verdict"], Object.values(said.phases).map((each) =>
        [name(each.name), state(each.state), `${each.completed} of ${each.total}`, each.verdict || "–"]), "")] : []);
    const drawn = await ask(`${path}/picture`).catch(() => null);
    keep[1](drawn?.svg, () => {
      if (!drawn?.svg) return "There is no picture of it.";
      const svg = document.importNode(new DOMParser().parseFromString(drawn.svg, "image/svg+xml").documentElement, true);
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", "The tasks and what they wait for; the table says their states");
      return svg;
    });
  };
  await load();
  return {
    parts: [el("h1", {}, "Run ", name(id)), el("div", { class: "row" }, act("Pause", "pause"), act("Resume", "resume"),
      act("Cancel", "cancel"), act("Run what failed again", "restart")), words, picture, phases, el("h2", {}, "Tasks"), list],
    stop: every(1000, load),
  };
}

// -- agents and resources ---------------------------------------------------------

async function agentsPage() {
  const agents = el("div");
  const pools = el("div");
  const keep = [agents, pools].map(keeper);
  const load = async () => {
    const said = await ask("/api/v1/resources").catch(() => ({ pools: {}, quotas: [] }));
    keep[1](said, () => table(["Pool", "Used", "#Amount", "#Total", "#Holders"], Object.entries(said.pools).map(([pool, each]) => [
      name(pool), el("meter", { min: 0, max: each.total || 1, value: each.used, "aria-label": `${pool}: used` }),
      count(each.used), count(each.total), count(Object.keys(each.holders || {}).length)]), "There are no pools."));
  };
  return {
    parts: [el("h1", {}, "Agents and resources"), el("h2", {}, "Agents"), agents, el("h2", {}, "Resources"), pools],
    update(said) {
      const found = said.statistics.agents;
      keep[0](found, () => table(["Agent", "#Running", "#At most", "#Completed", "#Failed", "Health"],
        Object.entries(found).slice(0, 1000).map(([agent, each]) => [
          el("a", { href: href("tasks", "", { agent }), class: "name", dir: "auto" }, agent),
          count(each.running), each.max_concurrency === null ? "–" : count(each.max_concurrency), count(each.completed),
          count(each.failed), each.breaker ? String(each.breaker) : each.leaked ? `${each.leaked} slots are lost` : "ok"]),
        "There is no agent."));
    },
    stop: every(1000, load),
  };
}

// -- questions and schedules ------------------------------------------------------

async function questionsPage() {
  const list = el("div");
  const keep = keeper(list);
  const load = async () => {
    const said = await ask("/api/v1/questions");
    keep(said, () => said.questions.length ? said.questions.map(questionForm) : el("p", {}, "Nobody is asked anything."));
  };
  const questionForm = (each) => {
    const key = each.question_id ?? each.task_id ?? each.id;
    const by = el("input", { id: `by-${key}`, name: "by", required: true, autocomplete: "username" });
    const note = el("input", { id: `note-${key}`, name: "note" });
    return el("section", { "aria-label": each.text || key }, el("h2", {}, name(each.text || key)),
      el("p", { class: "quiet" }, taskLink(key)),
      el("form", {
        class: "row",
        onsubmit: async (event) => {
          event.preventDefault();
          event.submitter.disabled = true;
          try {
            const body = { choice: event.submitter.value, by: by.value };
            if (note.value) body.note = note.value;
            await ask(`/api/v1/questions/${encodeURIComponent(key)}/answer`, { method: "POST", body });
            say("");
            await load();
          } catch (failed) {
            say(`${failed.message} ${failed.hint || ""}`);
            event.submitter.disabled = false;
          }
        },
      }, el("label", { class: "field", for: by.id }, "Your name", by), el("label", { class: "field", for: note.id }, "Note", note),
      (each.options || []).map((option) => el("button", { value: option }, option))));
  };
  await load().catch((error) => {
    if (!(error instanceof Refused) || error.status !== 404) throw error;
    list.replaceChildren(el("p", {}, "This service has no questions."));
  });
  return { parts: [el("h1", {}, "Questions"), list], stop: every(2000, load) };
}

async function schedulesPage() {
  const list = el("div");
  const keep = keeper(list);
  const load = async () => {
    const said = await ask("/api/v1/schedules");
    keep(said, () => table(["Schedule", "When", "Zone", "Next", "State"], said.schedules.map((each) => [
      name(each.name), el("code", {}, String(each.when ?? each.cron ?? each.every ?? "")), each.zone || "–",
      when(each.next), each.paused ? state("suspended") : state("running")]), "There are no schedules."));
  };
  await load().catch((error) => {
    if (!(error instanceof Refused) || error.status !== 404) throw error;
    list.replaceChildren(el("p", {}, "This service has no schedules."));
  });
  return { parts: [el("h1", {}, "Schedules"), list], stop: every(2000, load) };
}

// -- events -----------------------------------------------------------------------

async function eventsPage(route) {
  const body = el("tbody");
  const task = route.query.task || "";
  const form = el("form", {
    class: "row",
    onsubmit: (event) => {
      event.preventDefault();
      go("events", "", { task: new FormData(event.target).get("task") });
    },
  }, el("label", { class: "field", for: "by-task" }, "Task, with *", el("input", { id: "by-task", name: "task", value: task })),
  el("button", {}, "Show"));
  const words = el("p", { class: "quiet" });
  let after = "";
  let many = 0;
  const load = async () => {
    let found = [];
    for (let page = 0; page < 50; page += 1) {
      const asked = new URLSearchParams({ limit: "500" });
      if (task) asked.set("task", task);
      if (after) asked.set("after", after);
      const said = await ask(`/api/v1/events?${asked}`);
      if (said.missed && after) say("Some events came faster than they are kept, and are not shown.");
      many += said.events.length;
      found = [...found, ...said.events].slice(-500);
      const isLast = said.next === after;
      after = said.next;
      if (isLast) break;
    }
    for (const { event, at, at_ns: ignored, seq, task_id: id, ...rest } of found) {
      const more = Object.entries(rest).filter(([, value]) => value !== null && value !== "" && value?.length !== 0);
      body.prepend(el("tr", {}, [String(seq ?? ""), when(at), event, id ? taskLink(id) : "–",
        name(more.map(([key, value]) => `${key}: ${JSON.stringify(value)}`).join(", "))].map((cell) => el("td", {}, cell))));
    }
    while (body.rows.length > 500) body.deleteRow(-1);
    words.textContent = `${count(many)} events; the latest 500 are shown, the last one first.`;
  };
  await load();
  return {
    parts: [el("h1", {}, "Events"), form, words, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Events" },
      el("table", {}, el("thead", {}, el("tr", {}, ["Number", "When", "Event", "Task", "More"].map((head) => el("th", { scope: "col" }, head)))), body))],
    stop: every(1000, load),
  };
}

export const VIEWS = {
  "": overviewPage, tasks: tasksPage, task: taskPage, timeline: timelinePage, workflows: workflowsPage,
  agents: agentsPage, questions: questionsPage, schedules: schedulesPage, events: eventsPage,
};
