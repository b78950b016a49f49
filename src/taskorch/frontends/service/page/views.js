// One function for each page: `(route, latest numbers) -> { parts, update, stop }`.
import { ask, el, fail, go, href, news, Refused, say } from "/page/page.js";

export const TITLES = {
  "": "Overview", tasks: "Tasks", timeline: "Timeline", workflows: "Workflows", agents: "Agents and resources",
  questions: "Questions", schedules: "Schedules", metrics: "Metrics", events: "Events",
};
// Those that a journal alone cannot fill.
export const LIVE = ["workflows", "agents", "questions", "schedules"];
const STATES = ["running", "queued", "pending", "retrying", "blocked", "suspended",
  "completed", "failed", "cancelled"];
// The names of TaskFilter, but for the state.
const FILTERS = [["id", "Id, with *"], ["type", "Type"], ["agent", "Agent"], ["owner", "Owner"],
  ["metadata", "Metadata, as JSON"], ["since", "Since: seconds ago, or a date"], ["older_than", "Seconds in this state"]];

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
const share = (part) => part === null || part === undefined ? "–" : `${(100 * part).toFixed(1).replace(/\.0$/, "")} %`;
const amount = (number) => Number.isInteger(number) ? count(number) : String(Number(number).toPrecision(6) * 1);
const section = (title, part) => [el("h2", {}, title), part];
const meter = (used, most, words) => el("meter", { min: 0, max: most || 1, value: Math.min(used, most || 1), "aria-label": words });
const taskLink = (id, run = id) => el("a", { href: href("task", run), class: "name", dir: "auto" }, id.length > 300 ? `${id.slice(0, 300)}…` : id);
// What events name is one run, and a bare id means the latest.
const runOf = (id) => id.includes("~") ? id : `${id}~1`;
const runLink = (id) => taskLink(id, runOf(id));
const again = (task) => task.mended_by ? ["mended since by ", taskLink(task.mended_by)] : task.rerun ? ["run again as ", taskLink(task.rerun)] : [];

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

// Does *work* each *ms*, if there was news since, or *always* says so.
function every(ms, work, always = () => false) {
  let stopped = false;
  let timer = null;
  let seen = news();
  let at = Date.now();
  const run = async () => {
    if (!document.hidden && (news() !== seen || always() || Date.now() - at > 15000)) {
      seen = news();
      at = Date.now();
      try {
        await work();
      } catch (error) {
        if (error instanceof Refused && error.status === 401) fail(error);
      }
    }
    if (!stopped) timer = setTimeout(run, ms);
  };
  timer = setTimeout(run, ms);
  return () => { stopped = true; clearTimeout(timer); };
}

// A button that asks the server to do something, and then shows what has become of it.
function act(words, verb, send, after, more = {}) {
  return el("button", {
    id: `do-${verb}`,
    type: "button",
    ...more,
    onclick: async (event) => {
      const button = event.currentTarget;
      if (button.disabled) return;
      button.disabled = true; // a second click changes nothing
      try {
        const said = await send();
        say(said?.changed === false ? "There was nothing to change." : "");
        await after(said);
      } catch (failed) {
        say(`${failed.message} ${failed.hint || ""}`);
      }
      button.disabled = false;
    },
  }, words);
}
const post = (path, body = {}) => ask(path, { method: "POST", body });

// What can be done, as the service says it: the paths of buttons are no words of this page.
let verbs = null;
async function perform(operation, subject, body = {}) {
  verbs ??= Object.fromEntries((await ask("/api/v1/verbs")).verbs.map((each) => [each.operation, each]));
  const { path } = verbs[operation];
  return post(path.replace(/{\w+}/, encodeURIComponent(subject)), body);
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
  const asked = el("div");
  const rates = canvasOf(120, "Tasks that ended in each of the last 120 seconds; said in words below");
  const ended = el("p", { class: "quiet" });
  const runs = el("div");
  const full = el("div");
  const types = el("div");
  const causes = el("div");
  const checks = el("div");
  const held = el("div");
  const keep = [tiles, causes, types, checks, full, asked, runs, held].map(keeper);
  let live = false;
  let loaded = false;
  let drawnAt = 0;
  const load = async () => {
    if (!live) return;
    loaded = true;
    const [{ workflow_ids: ids }, { alerts }] = await Promise.all([ask("/api/v1/workflows"), ask("/api/v1/alerts")]);
    const latest = ids.slice(-5).reverse();
    const all = await Promise.all(latest.map((id) => ask(`/api/v1/workflows/${encodeURIComponent(id)}`)));
    keep[6]([all, alerts], () => [...alertsOf(alerts), ...(all.length ? section("Progress", progressOf(all)) : [])]);
  };
  return {
    parts: [el("h1", {}, "Overview"), held, tiles, asked, el("h2", {}, "Ended, a second"), rates, ended, runs,
      ...section("Saturation", full), ...section("Failures by cause", causes), ...section("Types of tasks", types),
      ...section("Health", checks)],
    stop: every(1000, load, () => live && !loaded),
    update(said) {
      live = said.live;
      const numbers = said.statistics;
      keep[0](numbers.state_machine, () => STATES.map((each) =>
        el("a", { class: "tile", id: `tile-${each}`, href: href("tasks", "", { state: each }) },
          state(each), el("b", { id: `count-${each}` }, count(numbers.state_machine[each])))));
      tiles.dataset.heard = said.heard;
      keep[5](said.questions, () => !said.questions ? [] : el("p", {}, el("a", { href: href("questions") },
        said.questions === 1 ? "One question waits for an answer." : `${count(said.questions)} questions wait for an answer.`)));
      keep[7]([numbers.holds, said.broken, numbers.state_machine.failed > 0], () => [...numbers.holds.map((each) => el("p", { role: "status" }, el("b", {}, each))),
        numbers.state_machine.failed ? el("p", {}, el("a", { id: "broken", href: href("tasks", "", { state: "failed", mended: "false" }) },
          said.broken === null ? "What failed, and was not mended since" : said.broken ? `Failed, and not mended since: ${count(said.broken)}${said.broken >= said.most ? " or more" : ""}` : "What failed was run again, and has completed.")) : null].filter(Boolean));
      // A picture of seconds needs no more than four a second.
      if (performance.now() - drawnAt > 250) {
        drawnAt = performance.now();
        drawRates(rates, said.rates);
      }
      const minute = said.rates.slice(-60);
      const [good, bad] = [0, 1].map((i) => minute.reduce((sum, each) => sum + each[i], 0));
      ended.textContent = `In the last minute ${count(good)} completed and ${count(bad)} failed; ` +
        `${count(numbers.queue.processing)} run, ${count(numbers.queue.queued)} are queued` +
        `${numbers.queue.oldest ? `, the oldest for ${lasting(numbers.queue.oldest)}` : ""}. ` +
        `${count(numbers.retries.scheduled)} were tried again, of which ${count(numbers.retries.recovered)} recovered.`;
      const busy = Object.entries(numbers.agents).filter(([, each]) => each.max_concurrency)
        .map(([agent, each]) => [`agent ${agent}: slots`, each.running, each.max_concurrency]);
      const pools = Object.entries(numbers.resources).map(([pool, each]) => [pool, each.used, each.total]);
      const most = [...busy, ...pools].sort((a, b) => b[1] / (b[2] || 1) - a[1] / (a[2] || 1)).slice(0, 20);
      keep[4](most, () => table(["What", "In use", "#Used", "#There is"], most.map(([what, used, total]) =>
        [name(what), meter(used, total, `${what}: used`), amount(used), amount(total)]),
      "Nothing has a limit: there are neither pools nor agents with slots."));
      keep[1](numbers.failures, () => table(["Cause", "#Tasks"],
        Object.entries(numbers.failures).sort((a, b) => b[1] - a[1]).slice(0, 50)
          .map(([cause, many]) => [el("a", { href: href("tasks", "", { state: "failed" }) }, cause), count(many)]),
        "Nothing has failed."));
      const some = Object.entries(numbers.types).slice(0, 100);
      keep[2](some, () => table(
        ["Type", "#Completed", "#Failed", "#Median", "#95 of 100", "Errors"],
        some.map(([type, each]) => [
          el("a", { href: href("tasks", "", { type }), class: "name", dir: "auto" }, type),
          count(each.completed), count(each.failed), lasting(each.running?.p50), lasting(each.running?.p95),
          name(Object.entries(each.failures || {}).map(([error, many]) => `${error}: ${count(many)}`).join(", "))]),
        "No task has come yet."));
      keep[3](said.health.checks, () => table(["Component", "State", "Detail"],
        said.health.checks.map((each) => [each.component, state(each.status), each.detail]), ""));
    },
  };
}

const alertsOf = (alerts) => {
  const found = alerts.filter((each) => each.state === "firing" || each.state === "pending");
  return found.length ? section("Alerts", table(["Alert", "Of", "State", "Severity", "Since", "Measured", "What is done"],
    found.map((each) => [each.name, name(each.subject || "all"), state(each.state), each.severity, when(each.since),
      name(each.message), each.action || "–"]), "")) : [];
};

// Each phase of each run, or the run itself if it has none.
const progressOf = (runs) => table(["Run", "Phase", "#Total", "#Completed", "Share", "#Running", "#Blocked", "State"],
  runs.flatMap((run) => {
    const link = el("a", { href: href("workflows", run.workflow_id), class: "name", dir: "auto" }, run.workflow_id);
    const phases = Object.values(run.phases || {});
    const total = Object.keys(run.tasks).length;
    const rows = phases.length ? phases : [{ name: "–", total, completed: run.counts.completed || 0,
      running: run.counts.running || 0, blocked: run.counts.blocked || 0, state: run.pause || run.state }];
    return rows.map((each, i) => [i ? "" : link, name(each.name), count(each.total), count(each.completed),
      [meter(each.completed, each.total, `${run.workflow_id}, ${each.name}: completed`), ` ${each.total ? Math.floor(100 * each.completed / each.total) : 100} %`],
      count(each.running), count(each.blocked), state(each.verdict || each.state)]);
  }), "");

// -- tasks ------------------------------------------------------------------------

async function tasksPage(route) {
  const query = route.query;
  const found = el("div");
  const keep = keeper(found);
  const fields = FILTERS.map(([key, words]) => el("label", { class: "field", for: `by-${key}` }, words,
    el("input", { id: `by-${key}`, name: key, value: query[key] || "", autocomplete: "off" })));
  const states = el("select", { id: "by-state", name: "state" }, el("option", { value: "" }, "any"),
    STATES.map((each) => el("option", { value: each, selected: each === query.state }, each)));
  const mended = el("select", { id: "by-mended", name: "mended" }, [["", "any"], ["false", "not mended since"], ["true", "mended since"]].map(
    ([value, words]) => el("option", { value, selected: value === (query.mended || "") }, words)));
  const form = el("form", {
    class: "row",
    onsubmit: (event) => {
      event.preventDefault();
      go("tasks", "", Object.fromEntries(new FormData(event.target)));
    },
  }, el("label", { class: "field", for: "by-state" }, "State", states), el("label", { class: "field", for: "by-mended" }, "Run again", mended), fields, el("button", {}, "Find"));
  const load = async () => {
    const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
    asked.set("limit", "100");
    let said = null;
    try {
      said = await ask(`/api/v1/tasks?${asked}`);
    } catch (error) {
      if (!(error instanceof Refused) || ![400, 422].includes(error.status)) throw error;
      return keep(error.message, () => el("p", { role: "alert" }, `${error.message} ${error.hint}`));
    }
    keep(said, () => {
      const more = said.next ? el("p", {}, el("a", { href: href("tasks", "", { ...query, cursor: said.next }) }, "Later ones")) : null;
      return [table(["Task", "Type", "State", "Agent", "#Attempts", "Submitted", "Error"],
        said.tasks.map((task) => [taskLink(task.run_id), name(task.type), state(task.state), name(task.agent_id || "–"),
          count(task.attempts), when(task.submitted), [again(task), task.rerun && task.error ? "; " : "", name(errorLine(task))]]),
        "No task is as you asked. With fewer conditions there may be some."), more].filter(Boolean);
    });
  };
  await load();
  const stop = every(1000, load);
  return { parts: [el("h1", {}, "Tasks"), form, found], stop };
}

const errorLine = (task) => task.error ? (typeof task.error === "string" ? task.error : `${task.error.type || ""}: ${task.error.message || ""}`).slice(0, 200) : "";

async function taskPage(route, known) {
  const id = encodeURIComponent(route.id);
  const path = `/api/v1/tasks/${id}`;
  const parts = Array.from({ length: 7 }, () => el("div"));
  const [buttons, facts, why, error, spans, history, form] = parts;
  const title = el("h1", {}, "Task ", name(route.id));
  const keep = parts.map(keeper);
  const showAsked = questionsIn(form, () => load());
  const log = el("pre", { tabindex: "0", "aria-label": "Output" });
  const logHead = el("h2", { hidden: true }, "Output");
  buttons.className = "row";
  log.hidden = true;
  let board = known; // until it is known whether it is live, nothing is offered
  let running = false;
  let next = null;
  const button = (words, operation, id, body = {}) => act(words, id, () => perform(operation, route.id, body), load);
  const load = async () => {
    const [task, said] = await Promise.all([ask(path), ask(`${path}/explanation`).catch(() => null)]);
    running = task.state === "running";
    title.replaceChildren("Task ", name(task.run_id));
    const live = Boolean(board?.live && board.health.live);
    // What blocks it is a task, or the word for something else that explains itself.
    const kinds = (said?.blockers || []).map((each) => each.kind);
    keep[1]([task, board?.journal, kinds], () => {
      const rows = [["State", [state(task.state), task.label && task.label !== task.state ? ` (${task.label})` : ""]], ["Type", name(task.type)],
        ["Agent", task.agent_id ? el("a", { href: href("agents"), class: "name", dir: "auto" }, task.agent_id) : "–"],
        ["Attempts", count(task.attempts)], ["Priority", String(task.priority)], ["Owner", name(task.owner || "–")],
        ["Submitted", when(task.submitted)], ["Started", when(task.started)], ["Ended", when(task.ended)],
        ["Took", lasting(task.duration)]];
      const holds = Object.entries(task.allocation || {}).map(([what, many]) => `${amount(many)} ${what}`).join(", ");
      if (holds) rows.push(["Holds", name(holds)]);
      if (task.stopping) rows.push(["Stops", name(task.stopping)]);
      if (task.rerun || task.task_id.includes("~")) rows.push(["Runs", linksOfRuns(task)]);
      if (task.rerun) rows.push(["Since then", again(task)]);
      if (task.stale) rows.push(["Stale", "what it depends on was run again since"]);
      if (task.progress !== null && task.progress !== undefined) rows.push(["Progress", name(JSON.stringify(task.progress))]);
      if (Object.keys(task.metadata || {}).length) rows.push(["Metadata", name(JSON.stringify(task.metadata))]);
      if (task.blocked_by?.length) rows.push(["Blocked by", task.blocked_by.map((each) => [kinds.includes(each) ? each : taskLink(each), " "])]);
      if (task.log_path) rows.push(["Output in", el("code", {}, task.log_path)]);
      rows.push(["Again, by hand", el("code", {}, `taskorch rerun ${board?.journal || location.origin} ${route.id}`)],
        ["Its events", el("a", { href: href("events", "", { task: task.task_id }) }, "as they came")]);
      return el("dl", {}, rows.map(([word, value]) => [el("dt", {}, word), el("dd", {}, value)]));
    });
    const over = ["completed", "failed", "cancelled"].includes(task.state);
    const isHeld = (said?.blockers || []).some((each) => each.remedies?.some((remedy) => remedy.kind === "decide"));
    const isAsked = !over && live && (board?.questions || task.type === "question")
      ? (await ask("/api/v1/questions").catch(() => ({ questions: [] }))).questions.filter((each) =>
        each.tasks.includes(task.task_id)) : [];
    keep[0]([task.state, live, isAsked.length, isHeld], () => live ? [
      over ? null : button("Cancel", "cancel_task", "cancel"),
      over || task.state === "suspended" ? null : button("Suspend", "suspend_task", "suspend"),
      task.state === "suspended" ? button("Resume", "resume_task", "resume") : null,
      over ? button("Run again", "rerun_task", "rerun") : null,
      isHeld && !isAsked.length ? button("Retry", "decide", "retry", { verdict: "retry" }) : null,
      isHeld && !isAsked.length ? button("Give up", "decide", "fail", { verdict: "fail" }) : null,
    ].filter(Boolean) : []);
    showAsked(isAsked);
    keep[4]([task.history, Math.floor((board?.now || 0) / 5)], () => spansOf(task, board?.now || Date.now() / 1000));
    keep[5]([task.history, task.earlier_errors, task.recovery_attempts, task.late_results], () => [
      table(["When", "State", "Why"], (task.history || []).map((each) =>
        [when(each.at), state(each.label || each.state), name(String(each.detail || ""))]), "Nothing yet."),
      ...tried("Earlier errors", ["#Attempt", "Error", "Where"], Object.entries(task.earlier_errors || {}).map(([number, each]) =>
        [number, name(`${each.type}: ${each.message}`), name(each.where || "")])),
      ...tried("Tried to mend it", ["#Attempt", "What", "Came to"], (task.recovery_attempts || []).map((each) =>
        [each.attempt, name(`${each.action} (${each.kind})`), name(`${each.result} ${each.message}`)])),
      ...tried("Results that came too late", ["#Attempt", "Result"], Object.entries(task.late_results || {}).map(([number, each]) =>
        [number, name(JSON.stringify(each))]))]);
    if (over) {
      const result = await ask(`${path}/result`).catch(() => null);
      keep[3](result, () => !result ? [] : result.error
        ? [el("h2", {}, "Error"), el("p", { class: "state failed name" }, `${result.error.type}: ${result.error.message}`),
          result.error.hint ? el("p", {}, result.error.hint) : null, result.error.where ? el("p", {}, result.error.where) : null,
          result.error.traceback ? el("pre", { tabindex: "0", "aria-label": "Traceback" }, textOf(result.error.traceback)) : null].filter(Boolean)
        : [el("h2", {}, "Result"), el("pre", { tabindex: "0", "aria-label": "Result" }, String(textOf(result.result)).slice(0, 20000))]);
    } else keep[3](null, () => []);
    keep[2](said?.text, () => said ? [el("h2", {}, "Why"), el("p", { class: "name lines" }, said.text)] : []);
    const part = await ask(`${path}/log${next === null ? "" : `?after=${next}`}`).catch(() => null);
    if (part?.exists) {
      if (next === null || part.next < next) log.textContent = "";
      next = part.next;
      log.hidden = logHead.hidden = false;
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
      if (part.text) log.append(part.text);
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
  };
  await load();
  return {
    parts: [title, buttons, form, facts, why, error, ...section("Spans", spans), ...section("History", history), logHead, log],
    stop: every(1000, load, () => running),
    update(said) {
      const first = board === null;
      board = said;
      if (first) load().catch(() => {});
    },
  };
}

// All runs of a task, the first one first; this one is no link.
function linksOfRuns(task) {
  const number = (id) => Number(id.split("~")[1] || 1);
  const [stem, last] = [task.task_id.split("~")[0], number(task.rerun || task.task_id)];
  const shown = Array.from({ length: last }, (_, i) => i + 1).slice(-50);
  return [shown[0] > 1 ? `${count(shown[0] - 1)} earlier ones … ` : "", ...shown.map((each) => [each === number(task.task_id)
    ? el("b", { "aria-current": "true" }, `~${each}`) : el("a", { href: href("task", `${stem}~${each}`) }, `~${each}`), " "])];
}

const tried = (title, heads, rows) => rows.length ? [el("h3", {}, title), table(heads, rows, "")] : [];

// How long it was in each state, one below the other, on one scale.
function spansOf(task, now) {
  const steps = task.history || [];
  if (!steps.length) return el("p", {}, "Nothing yet.");
  const isOver = ["completed", "failed", "cancelled"].includes(task.state);
  const begin = steps[0].at;
  const end = isOver ? steps[steps.length - 1].at : Math.max(now, steps[steps.length - 1].at);
  const scale = 100 / Math.max(1e-9, end - begin);
  let attempt = 0;
  return table(["What", "After", "Took", "Picture"], steps.slice(0, isOver ? -1 : undefined).map((step, i) => {
    const until = steps[i + 1]?.at ?? end;
    const bar = el("span", { class: `span ${step.state}` });
    bar.style.marginInlineStart = `${(step.at - begin) * scale}%`;
    bar.style.width = `${Math.max(0.5, (until - step.at) * scale)}%`;
    if (step.state === "running") attempt += 1;
    return [step.state === "running" ? `attempt ${attempt}` : step.state, lasting(step.at - begin), lasting(until - step.at),
      el("span", { class: "spans", "aria-hidden": "true" }, bar)];
  }), "It ended as it came.");
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
    const many = said.agents.map((agent, i) => [name(agent), ...said.counts[i].map(count)]);
    keep([said.agents, said.counts], () => table(["Agent", ...said.outcomes.map((each) => `#${each}`)], many, "Nothing has been done yet."));
    legend.replaceChildren(...said.outcomes.flatMap((each) => {
      const mark = el("span", { "aria-hidden": "true" }, "■ ");
      mark.style.color = `var(--bar-${each})`;
      return [mark, `${each}  `];
    }));
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
      if (row >= 0 && row < rows && hit) go("task", runOf(hit[6]));
      top += rows * 12 + 20;
    });
  });
  const buttons = [["Closer", zoom(0.5)], ["Farther", zoom(2)], ["Earlier", shift(-0.5)], ["Later", shift(0.5)],
    ["All", () => go("timeline")]].map(([text, act]) => el("button", { type: "button", onclick: act }, text));
  setTimeout(() => load().catch(fail), 0);
  const stop = until ? () => {} : every(1000, load, () => said?.rectangles.some((each) => each[4] === 0));
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
  const asked = el("div");
  const showAsked = questionsIn(asked, () => load());
  const keep = [words, picture, list, phases].map(keeper);
  const button = (text, verb) => act(text, verb, () => perform(`${verb}_workflow`, id), load);
  const load = async () => {
    const said = await ask(path);
    keep[0](said.text, () => said.text);
    keep[2](said.tasks, () => table(["Task", "State"], Object.entries(said.tasks).slice(0, 2000).map(([task, each]) =>
      [taskLink(`${id}/${task}`), state(each)]), "It has no tasks."));
    const open = said.asks.length ? (await ask("/api/v1/questions")).questions.filter((each) => each.id.startsWith(`${id}/`)) : [];
    keep[3](said.phases, () => Object.keys(said.phases || {}).length ? section("Phases", progressOf([said])) : []);
    showAsked(open);
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
    parts: [el("h1", {}, "Run ", name(id)), el("div", { class: "row" }, button("Pause", "pause"), button("Resume", "resume"),
      button("Cancel", "cancel"), button("Run what failed again", "restart")), words, picture, phases, asked, el("h2", {}, "Tasks"), list],
    stop: every(1000, load),
  };
}

// -- agents and resources ---------------------------------------------------------

async function agentsPage() {
  const agents = el("div");
  const pools = el("div");
  const quotas = el("div");
  const alerts = el("div");
  const keep = [agents, pools, quotas, alerts].map(keeper);
  const load = async () => {
    const [found, said, rules] = await Promise.all([ask("/api/v1/agents"), ask("/api/v1/resources"), ask("/api/v1/alerts")]);
    keep[0](found.agents, () => [table(["Agent", "Kind", "State", "Why", "#Running", "#At most", "#Succeeds", "#Takes", "#Silent for", "Breakers", "Can do"],
      found.agents.slice(0, 500).map((each) => [
        el("a", { href: href("tasks", "", { agent: each.id }), class: "name", dir: "auto" }, each.id),
        name(each.type ? `${each.kind} (${each.type})` : each.kind), state(each.status), name(each.health.reasons.join("; ") || "–"),
        count(each.workload), each.slots === null ? "–" : count(each.slots), share(each.health.success_rate), lasting(each.health.latency),
        lasting(each.health.heartbeat_age), name(Object.entries(each.health.breakers).map(([what, how]) => `${what || "all"}: ${how}`).join(", ") || "–"),
        name(Object.entries(each.capabilities).map(([what, level]) => level === 1 ? what : `${what}:${level}`).join(", ") || "–")]),
      "There is no agent."), found.agents.length > 500 ? el("p", {}, `${count(found.agents.length - 500)} more are not shown.`) : ""]);
    keep[1](said.pools, () => table(["Pool", "In use", "#Used", "#There is"], Object.entries(said.pools).map(([pool, each]) => [
      name(pool), meter(each.used, each.total, `${pool}: used`), amount(each.used), amount(each.total)]), "There are no pools."));
    keep[2](said.quotas, () => table(["Quota of", "Limits", "Used", "#Running"], said.quotas.map(({ quota, used, running }) => [
      name(["type", "owner", "workflow"].filter((each) => quota[each]).map((each) => `${each} ${quota[each]}`).join(", ") || "all"),
      name([...Object.entries(quota.resources).map(([what, many]) => `${amount(many)} ${what}`),
        quota.max_parallel === null ? null : `${quota.max_parallel} at once`,
        quota.starts_per_second === null ? null : `${quota.starts_per_second} a second`].filter(Boolean).join(", ") + (quota.soft ? " (soft)" : "")),
      name(Object.entries(used).map(([what, many]) => `${amount(many)} ${what}`).join(", ") || "–"), count(running)]), "There are no quotas."));
    keep[3](rules, () => table(["Alert", "Of", "State", "Severity", "Since", "Measured", "What is done"], rules.alerts.map((each) => [
      each.name, name(each.subject || "all"), state(each.state), each.severity, each.since ? when(each.since) : "–", name(each.message || "–"),
      name(each.action || "–")]), rules.watched ? "There are no rules." : "No alerts are watched: the first use of orch.alerts begins it."));
  };
  await load();
  return {
    parts: [el("h1", {}, "Agents and resources"), ...section("Agents", agents), ...section("Resources against what there is", pools),
      ...section("Quotas", quotas), ...section("Alerts", alerts)],
    stop: every(1000, load),
  };
}

// -- questions and schedules ------------------------------------------------------

// What is asked, each with one form: a question, an approval, an escalation. What somebody writes into one stays there.
function questionsIn(list, after, none = "") {
  const forms = new Map();
  const nobody = el("p", { hidden: true }, none);
  list.append(nobody);
  return (questions) => {
    const open = new Set(questions.map((each) => each.answer_to));
    for (const [asked, form] of forms) {
      if (open.has(asked)) continue;
      form.part.remove();
      forms.delete(asked);
    }
    for (const each of questions) {
      if (!forms.has(each.answer_to)) {
        forms.set(each.answer_to, questionForm(each, after));
        list.append(forms.get(each.answer_to).part);
      }
      forms.get(each.answer_to).show(each);
    }
    nobody.hidden = questions.length > 0;
  };
}

const idsOf = (words, ids) => ids.length ? el("p", {}, words, " ", ids.slice(0, 20).map((id) => [taskLink(id), " "]),
  ids.length > 20 ? `and ${count(ids.length - 20)} more` : "") : null;

// What is known of what is asked; of a failure, what helps to decide stands first.
function aboutQuestion(each) {
  const votes = each.votes.map(([who, choice]) => `${who}: ${choice}`).join(", ");
  const details = each.details ? el("pre", { tabindex: "0", "aria-label": "Details" }, textOf(each.details).slice(0, 5000)) : null;
  const failed = each.kind === "escalation";
  return [el("p", { class: "quiet" }, "since ", when(each.asked_at), each.due ? [", until ", when(each.due)] : "", `; ${each.whom}`,
    votes ? `; so far: ${votes}` : ""),
    failed ? el("p", { class: "name" }, `${each.severity}, ${each.issue_type}: ${each.context.error_type}: ${each.context.error_message}`) : null,
    failed ? el("ul", {}, each.recommended_actions.map((action) => el("li", {}, action))) : null,
    idsOf(failed ? "Decides on" : "Task", each.tasks), idsOf("Waiting for it:", each.blocking_tasks),
    failed ? el("details", {}, el("summary", {}, "All that is known"), details) : details].filter(Boolean);
}

function questionForm(each, after) {
  const field = (key, words, more = {}) => {
    const input = el("input", { id: `${key}-${each.id}`, name: key, autocomplete: "off", ...more });
    return [input, el("label", { class: "field", for: input.id }, words, input)];
  };
  const [by, byLabel] = field("by", "Your name", { required: true, value: sessionStorage.getItem("taskorch-name") || "" });
  const [note, noteLabel] = field("note", "Note");
  const example = each.kind === "escalation" ? '{"timeout": 600}' : null;
  const [changes, changesLabel] = field("changes", "Changes, as JSON", { placeholder: example });
  const about = el("div");
  const keep = keeper(about);
  const part = el("section", { "aria-label": each.text }, el("h2", {}, name(each.text)), about,
    el("form", {
      class: "row",
      onsubmit: async (event) => {
        event.preventDefault();
        const button = event.submitter;
        button.disabled = true;
        try {
          const body = { choice: button.value, by: by.value };
          if (note.value) body.note = note.value;
          if (changes.value.trim()) body.changes = JSON.parse(changes.value);
          sessionStorage.setItem("taskorch-name", by.value);
          // The answer is for what is shown here, whatever was asked since.
          const said = await perform("answer", each.answer_to, body);
          say(said.decided ? "" : "Your answer is kept; more are needed to decide it.");
          await after();
        } catch (failed) {
          say(failed instanceof SyntaxError ? `The changes are no JSON: ${failed.message}` : `${failed.message} ${failed.hint || ""}`);
        }
        button.disabled = false;
      },
    }, byLabel, noteLabel, changesLabel, each.options.map((option) => el("button", { value: option }, option))));
  // How much waits and runs changes all the time.
  return { part, show: (latest) => keep({ ...latest, system_state: null, details: { ...latest.details, system_state: null } }, () => aboutQuestion(latest)) };
}

async function questionsPage() {
  const list = el("div");
  const load = async () => show((await ask("/api/v1/questions")).questions);
  const show = questionsIn(list, load, "Nobody is asked anything.");
  await load();
  return { parts: [el("h1", {}, "Questions"), list], stop: every(1000, load) };
}

async function schedulesPage() {
  const list = el("div");
  const keep = keeper(list);
  const load = async () => {
    const said = await ask("/api/v1/schedules");
    keep(said, () => table(["Schedule", "When", "Zone", "Makes", "Next", "Done until", "Running", "State", "Buttons"], said.schedules.map((each) => {
      const button = (words, verb) => act(words, `${verb}-${each.name}`, () => perform(`${verb}_schedule`, each.name), load, { "aria-label": `${words}: ${each.name}` });
      return [name(each.name), el("code", {}, typeof each.definition.when === "number" ? `every ${lasting(each.definition.when)}` : String(each.definition.when)),
        each.definition.zone || "–", name(each.makes), when(each.next), when(each.done), each.running.map((id) => [taskLink(id), " "]),
        [state(each.paused ? "suspended" : "running"), ...[each.paused, each.trouble].filter(Boolean).map((text) => [" ", name(text)])],
        el("div", { class: "row" }, each.paused ? button("Resume", "resume") : button("Pause", "pause"),
          act("Make it now", `trigger-${each.name}`, () => perform("trigger_schedule", each.name), (made) => say(`Made: ${made.ids.join(", ")}`),
            { "aria-label": `Make it now: ${each.name}` }))];
    }), "There are no schedules."));
  };
  await load();
  return { parts: [el("h1", {}, "Schedules"), list], stop: every(2000, load) };
}

// -- metrics ----------------------------------------------------------------------

const SHARES = ["total_memory_usage", "total_cpu_utilization", "task_success_rate", "agent_error_rate"];
const SECONDS = ["task_execution_time", "performance_benchmarks", "agent_communication_latency"];

function measured(key, value) {
  if (value === null || value === undefined) return "not measured";
  if (typeof value === "object") return Object.entries(value).map(([what, each]) =>
    `${what}: ${key === "agent_resource_usage" ? share(each) : amount(each)}`).join(", ") || "–";
  if (typeof value !== "number") return String(value);
  if (key === "test_coverage_percentage") return share(value / 100);
  return SHARES.includes(key) ? share(value) : SECONDS.includes(key) ? lasting(value) : amount(value);
}

async function metricsPage() {
  const parts = [el("div"), el("div"), el("div")];
  const keep = parts.map(keeper);
  const words = (key) => key.replace(/^(agent|task|test)_/, "").replaceAll("_", " ");
  const by = (said, keys) => {
    const rows = [...new Set(keys.flatMap((key) => Object.keys(said[key] || {})))].slice(0, 500);
    return [["Name", ...keys.map(words)], rows.map((row) => [name(row), ...keys.map((key) => measured(key, said[key][row]))])];
  };
  const load = async () => {
    const said = await ask("/api/v1/metrics");
    const single = ["orchestrator_status", "active_agents_count", "total_memory_usage", "total_cpu_utilization",
      "task_queue_length", "completed_tasks_count", "failed_tasks_count", "resource_utilization_per_task"];
    keep[0](single.map((key) => said[key]), () => table(["Metric", "Now"], single.map((key) => [key.replaceAll("_", " "), measured(key, said[key])]), ""));
    const ofTypes = by(said, ["task_execution_time", "task_success_rate", "test_coverage_percentage", "performance_benchmarks"]);
    keep[1](ofTypes, () => table(...ofTypes, "No task has ended yet."));
    const ofAgents = by(said, ["agent_health_status", "agent_resource_usage", "agent_task_history", "agent_error_rate", "agent_communication_latency"]);
    keep[2](ofAgents, () => table(...ofAgents, "There is no agent."));
  };
  await load();
  return {
    parts: [el("h1", {}, "Metrics"), el("p", { class: "quiet" }, "As orch.metrics() has them; looked at every ten seconds while something happens."),
      ...section("Of the system", parts[0]), ...section("By type of task", parts[1]), ...section("By agent", parts[2])],
    stop: every(10000, load),
  };
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
      body.prepend(el("tr", {}, [String(seq ?? ""), when(at), event, id ? runLink(id) : "–",
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
  agents: agentsPage, questions: questionsPage, schedules: schedulesPage, metrics: metricsPage, events: eventsPage,
};
