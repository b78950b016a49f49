// What is done, by whom, and how much: the timeline, workers and resources, metrics, events.
import { ask, el, fail, go, href, maySeek, say } from "/page/page.js";
import { alertsTable, canvasOf, prepared } from "/page/overview.js";
import {
  amount, below, card, cell, colour, count, counted, every, field, keeper, lasting, link, meter, name, oneRunLink, runOf, share, state, table, when, whenText,
} from "/page/parts.js";

// -- timeline ---------------------------------------------------------------------

export async function timelinePage(route) {
  const canvas = canvasOf(200, "What each worker did; the table below says the same");
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
  // When each part of the width was, below what was done.
  const axis = (pen, width, high) => {
    const parts = Math.max(1, Math.floor(width / 180));
    for (let i = 0; i < parts; i += 1) {
      const x = Math.round((i * width) / parts);
      pen.fillStyle = colour("--line");
      pen.fillRect(x, 0, 1, high);
      pen.fillStyle = colour("--soft");
      pen.fillText(whenText(said.start + (i * (said.end - said.start)) / parts), x + 4, high - 5);
    }
  };
  const draw = () => {
    const tops = [];
    let top = 0;
    for (const rows of said.rows) { tops.push(top); top += rows * 12 + 20; }
    const high = Math.max(60, Math.min(6000, top)) + 20;
    const [pen, width] = prepared(canvas, high);
    pen.font = "12px system-ui, sans-serif";
    axis(pen, width, high);
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
    words.textContent = `${count(said.attempts)} attempts from ${whenText(said.start)}, over ${lasting(said.end - said.start)}` +
      (left ? `; ${count(said.attempts_left_out)} attempts and ${count(said.agents_left_out)} workers are not shown` : "") + ".";
    const many = said.agents.map((agent, i) => [name(agent), ...said.counts[i].map(count)]);
    keep([said.agents, said.counts], () => table(["Worker", ...said.outcomes.map((each) => `#${each}`)], many, "Nothing has been done yet."));
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
    parts: [el("h1", {}, "Timeline"), el("div", { class: "row" }, buttons), card("", legend, canvas, words), card("By worker", list)],
    stop() { stop(); removeEventListener("resize", resized); },
  };
}

// -- agents and resources ---------------------------------------------------------

const listed = (map, words) => Object.entries(map).map(([key, value]) => words(key, value)).join(", ");

// How much is in use of each unit that has a name.
const inUse = (units) => {
  const words = listed(units || {}, (unit, used) => `${amount(used)} of ${unit}`);
  return words && ` (in use: ${words})`;
};

export async function agentsPage() {
  const agents = el("div");
  const pools = el("div");
  const quotas = el("div");
  const alerts = el("div");
  const budgets = el("div");
  const keep = [agents, pools, quotas, alerts, budgets].map(keeper);
  const load = async () => {
    const [found, said, rules, spent] = await Promise.all(["agents", "resources", "alerts", "budgets"].map((each) => ask(`/api/v1/${each}`)));
    keep[0](found.agents, () => [table(["Worker", "!State", "#Running", "#Succeeds", "#Takes", "!Can do", "!Machine"],
      found.agents.slice(0, 500).map((each) => [
        [link("tasks", "", each.id, { agent: each.id }), below(each.type && each.type !== each.kind ? `${each.kind} (${each.type})` : each.kind)],
        [state(each.status), below(each.health.heartbeat_age === null ? "" : `silent for ${lasting(each.health.heartbeat_age)}`), below(each.health.reasons.join("; ")), below(listed(each.health.breakers, (what, how) => `breaker of ${what || "all"}: ${how}`))],
        each.slots === null ? count(each.workload) : `${count(each.workload)} of ${count(each.slots)}`, share(each.health.success_rate),
        lasting(each.health.latency),
        name(listed(each.capabilities, (what, level) => level === 1 ? what : `${what}:${level}`) || "–"),
        [name(listed(each.labels, (what, value) => what === "python" ? `Python ${value}` : value) || "–"),
          below(listed(each.capacity, (what, many) => `${amount(many)} ${what}${inUse(each.units?.[what])}`))]]),
      "There is no worker."), found.agents.length > 500 ? el("p", {}, `${count(found.agents.length - 500)} more are not shown.`) : ""]);
    keep[1](said.pools, () => table(["Pool", "In use", "#Used"], Object.entries(said.pools).map(([pool, each]) => [
      [name(pool), below(listed(each.units, (unit, used) => `${unit}: ${amount(used)} used`))], meter(each.used, each.total, `${pool}: used`), `${amount(each.used)} of ${amount(each.total)}`]), "There are no pools."));
    keep[2](said.quotas, () => table(["Quota of", "!Limits", "!Used", "#Running"], said.quotas.map(({ quota, used, running }) => [
      name(["type", "owner", "workflow"].filter((each) => quota[each]).map((each) => `${each} ${quota[each]}`).join(", ") || "all"),
      name([...Object.entries(quota.resources).map(([what, many]) => `${amount(many)} ${what}`),
        quota.max_parallel === null ? null : `${quota.max_parallel} at once`,
        quota.starts_per_second === null ? null : `${quota.starts_per_second} a second`].filter(Boolean).join(", ") + (quota.soft ? " (soft)" : "")),
      name(listed(used, (what, many) => `${amount(many)} ${what}`) || "–"), count(running)]), "There are no quotas."));
    keep[3](rules, () => alertsTable(rules.alerts, rules.watched ? "There are no rules." : "No alerts are watched: the first use of orch.alerts begins it."));
    // What is of the whole budget stands once, in the line of its first resource.
    const lines = spent.budgets.flatMap((each) => Object.entries(each.total).map(([what, total], i) => [i, each, what, total]));
    keep[4](spent, () => table(["Budget", "State", "Of", "Share", "#Spent", "#Reserved", "#Left", "#There is"], lines.map(([i, each, what, total]) => [
      i ? "" : [name(each.name), below(each.parent ? `part of ${each.parent}` : "")],
      i ? "" : [state(each.state), each.question ? el("div", {}, link("task", each.question, "asks what now")) : ""],
      name(what), meter(each.spent[what], total, `${each.name}: ${what} spent`), amount(each.spent[what]), amount(each.reserved[what]),
      amount(each.left[what]), amount(total)]), "There are no budgets.", (at) => ({ class: lines[at + 1]?.[0] ? "goes-on" : null })));
  };
  await load();
  return {
    parts: [el("h1", {}, "Workers and resources"), card("Workers", agents), el("div", { class: "cards" }, card("Resource pools", pools),
      card("Quotas: concurrency and rate limits", quotas)), card("Budgets", budgets), card("Alerts", alerts)],
    stop: every(1000, load),
  };
}

// -- metrics ----------------------------------------------------------------------

const SHARES = ["total_memory_usage", "total_cpu_utilization", "task_success_rate", "agent_error_rate"];
const SECONDS = ["task_execution_time", "performance_benchmarks", "agent_communication_latency"];

function measured(key, value) {
  if (value === null || value === undefined) return "not measured";
  if (key === "agent_task_history") {
    return `${counted(value.completed + value.failed, "attempt")}: ${count(value.completed)} completed, ${count(value.failed)} failed`;
  }
  if (typeof value === "object") return Object.entries(value).map(([what, each]) =>
    `${what}: ${key === "agent_resource_usage" ? share(each) : amount(each)}`).join(", ") || "–";
  if (typeof value !== "number") return String(value);
  if (key === "test_coverage_percentage") return share(value / 100);
  return SHARES.includes(key) ? share(value) : SECONDS.includes(key) ? lasting(value) : amount(value);
}

export async function metricsPage() {
  const parts = [el("div"), el("div"), el("div")];
  const keep = parts.map(keeper);
  const words = (key) => key.replace(/^(agent|task|test)_/, "").replaceAll("_", " ");
  const by = (said, keys) => {
    const rows = [...new Set(keys.flatMap((key) => Object.keys(said[key] || {})))].slice(0, 500);
    return [["Name", ...keys.map((key) => `!${words(key)}`)], rows.map((row) => [name(row), ...keys.map((key) => measured(key, said[key][row]))])];
  };
  const load = async () => {
    const said = await ask("/api/v1/metrics");
    const single = ["orchestrator_status", "active_agents_count", "total_memory_usage", "total_memory_usage_is", "total_cpu_utilization",
      "task_queue_length", "completed_tasks_count", "failed_tasks_count", "resource_utilization_per_task"];
    keep[0](single.map((key) => said[key]), () => table(["Metric", "!Now"], single.map((key) => [key.replaceAll("_", " ").replace("agents", "workers"), measured(key, said[key])]), ""));
    const ofTypes = by(said, ["task_execution_time", "task_success_rate", "test_coverage_percentage", "performance_benchmarks"]);
    keep[1](ofTypes, () => table(...ofTypes, "No task has ended yet."));
    const ofAgents = by(said, ["agent_health_status", "agent_resource_usage", "agent_task_history", "agent_error_rate", "agent_communication_latency"]);
    keep[2](ofAgents, () => table(...ofAgents, "There is no worker."));
  };
  await load();
  return {
    parts: [el("h1", {}, "Metrics"), el("p", { class: "quiet" }, "As orch.metrics() has them; looked at every ten seconds while something happens."),
      card("Of the system", parts[0]), card("By type of task", parts[1]), card("By worker", parts[2])],
    stop: every(10000, load),
  };
}

// -- events -----------------------------------------------------------------------

const HEADS = ["Number", "When", "Event", "Task", "More"];

export async function eventsPage(route) {
  const body = el("tbody");
  const task = route.query.task || "";
  const form = el("form", {
    class: "row",
    onsubmit: (event) => {
      event.preventDefault();
      const task = new FormData(event.target).get("task");
      if (maySeek(task)) go("events", "", { task });
    },
  }, field("Task, with *", el("input", { id: "by-task", name: "task", value: task })),
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
      body.prepend(el("tr", {}, [String(seq ?? ""), when(at), event, id ? oneRunLink(id) : "–",
        name(more.map(([key, value]) => `${key}: ${JSON.stringify(value)}`).join(", "))].map((content, i) => cell(HEADS[i], content, { class: i === 4 ? "long" : null }))));
    }
    while (body.rows.length > 500) body.deleteRow(-1);
    words.textContent = `${count(many)} events; the latest 500 are shown, the last one first.`;
  };
  await load();
  return {
    parts: [el("h1", {}, "Events"), form, words, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Events" },
      el("table", { class: "rows" }, el("thead", {}, el("tr", {}, HEADS.map((head) => el("th", { scope: "col" }, head)))), body))],
    stop: every(1000, load),
  };
}

