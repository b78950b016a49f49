// The first view: is last night all right? Then what failed, who is waited for, what is late; then load.
import { ask, el, href } from "/page/page.js";
import {
  actAfterAsking, amount, below, card, colour, count, counted, errorLine, every, keeper, lasting, link, mark, meter,
  name, runLink, STATES, state, table, taskLink, when, whenText,
} from "/page/parts.js";

const DAYS = 30;
// A cause names at most so many of its runs.
const NAMED = 100;
const DAY = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short", timeZone: "UTC" });
const LEGEND = ["completed", "mended", "failed", "blocked", "running", "suspended", "cancelled", "waiting", "skipped"];
const WORDS = {
  completed: "completed", mended: "completed, once it was run again", failed: "failed", blocked: "waits for a person or an event",
  running: "runs", suspended: "on hold", cancelled: "cancelled", waiting: "waits for the run before it", skipped: "skipped", pending: "waits",
};
const BROKEN = href("tasks", "", { state: "failed", mended: "false" });
// Where a point of the verdict leads: the id of its link, and its address.
const TO = { broken: ["broken", BROKEN], questions: ["asked", href("questions")] };

// -- the grid -----------------------------------------------------------------------

const statesIn = (states) => Object.entries(states).map(([which, many]) => `${count(many)} ${which}`).join(", ");

// What a square says: the schedule, when, what became of it, how long it was at work, who began it.
function wordsOf(schedule, cell) {
  const { run } = cell;
  const many = Object.values(cell.states).reduce((sum, each) => sum + each, 0);
  const at = run ? whenText(run.slot, schedule.zone) : typeof cell.at === "number" ? whenText(cell.at, schedule.zone) : cell.at;
  return [`${schedule.name}, ${at}: ${WORDS[cell.state] || cell.state}`, many > 1 ? statesIn(cell.states) : "",
    run?.seconds ? `at work ${lasting(run.seconds)}` : "", run ? `begun by ${run.began_by}` : "", cell.reason,
    run?.error ? errorLine(run.error) : ""].filter(Boolean).join("; ");
}

function square(schedule, cell, isWay) {
  const words = wordsOf(schedule, cell);
  const many = Object.values(cell.states).reduce((sum, each) => sum + each, 0);
  const to = many > 1 ? href("runs", "", { schedule: schedule.name, day: String(cell.at) })
    : cell.run ? href("runs", cell.run.id) : href("schedules", schedule.name);
  return el("a", { class: `cell ${cell.state}`, href: to, title: words, "aria-label": words, tabindex: isWay ? "0" : "-1" });
}

const standingOf = (schedule) => schedule.paused ? [mark("suspended"), "on hold"]
  : schedule.late ? [mark("blocked"), `late by ${lasting(schedule.late)}`]
    : schedule.waiting ? [mark("waiting"), `${count(schedule.waiting)} wait`] : when(schedule.next, schedule.zone);

// One row for a schedule and one column for a day, or for each of its latest ticks; the latest stands first.
export function gridOf(said, by) {
  const withTicks = by === "ticks";
  const columns = withTicks ? Array.from({ length: Math.min(said.days, Math.max(1, ...said.schedules.map((each) => each.cells.length))) }, (_, i) => i)
    : [...new Set(said.schedules.flatMap((each) => each.cells.map((cell) => cell.at)))].sort().reverse();
  const heads = columns.map((at, i) => {
    if (withTicks) return el("th", { scope: "col" }, i ? `−${i}` : "last");
    const day = new Date(`${at}T12:00:00Z`);
    const [, number, month] = DAY.format(day).split(/[ ,]+/);
    const isFirst = i === 0 || number === "1" || i === columns.length - 1;
    return el("th", { scope: "col", title: DAY.format(day), class: [0, 6].includes(day.getUTCDay()) ? "weekend" : null },
      number, el("br"), isFirst ? month : "\u00a0");
  });
  let isWay = true;
  const rows = said.schedules.map((schedule) => {
    const cells = withTicks ? schedule.cells : new Map(schedule.cells.map((cell) => [cell.at, cell]));
    const last = schedule.latest;
    return el("tr", {}, el("th", { scope: "row" }, link("schedules", schedule.name)),
      el("td", { class: "wide" }, last ? [mark(last.state), el("span", { class: "number" }, lasting(last.seconds))] : "–"),
      el("td", { class: "wide" }, standingOf(schedule)),
      columns.map((at, i) => {
        const cell = withTicks ? cells[i] : cells.get(at);
        if (!cell) return el("td", {}, el("span", { class: "cell none" }));
        const part = square(schedule, cell, isWay);
        isWay = false; // one stop for the Tab key; arrows lead on
        return el("td", {}, part);
      }));
  });
  const grid = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Schedules and their runs" },
    el("table", { class: "grid", id: "grid" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Schedule"),
      el("th", { scope: "col", class: "wide" }, "Last run, at work"), el("th", { scope: "col", class: "wide" }, "Next"), heads)), el("tbody", {}, rows)));
  grid.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const from = event.target.closest("td");
    if (!step || !from) return;
    event.preventDefault();
    let [row, column] = [from.parentElement.rowIndex, from.cellIndex];
    for (let tries = 0; tries < 60; tries += 1) {
      [row, column] = [row + step[0], column + step[1]];
      const cell = grid.querySelector("table").rows[row]?.cells[column];
      if (!cell) return;
      const to = cell.querySelector("a.cell");
      if (to) return to.focus();
    }
  });
  return grid;
}

const legend = () => el("p", { class: "legend" }, LEGEND.map((each) =>
  el("span", { class: "key" }, el("span", { class: `cell ${each}`, "aria-hidden": "true" }), WORDS[each])));

// -- the answer ----------------------------------------------------------------------

function verdictOf(said) {
  const { state: kind, latest, points } = said.verdict;
  const words = points.map(({ of, text }) => TO[of] ? el("a", { id: TO[of][0], href: TO[of][1] }, text) : text);
  return el("div", { class: `card verdict ${{ failed: "bad", blocked: "warn" }[kind] || ""}`, id: "verdict" }, mark(kind),
    el("p", {}, latest, latest ? " " : "", el("b", {}, words.length ? words.map((each, i) => [i ? "; " : "", each]) : "All is well", "."),
      said.is_reading ? " The journal is still being read: earlier runs are to come." : "",
      said.lost ? ` ${counted(said.lost, "event")} did not come here: what is shown of runs may be old. The page of a run is right.` : ""));
}

const list = (items, none) => items.length ? el("ul", { class: "plain" }, items.map((item) => el("li", {}, item)))
  : el("p", { class: "quiet" }, none);
const moreOf = (many, shown, to, words) => many > shown ? el("p", {}, el("a", { href: to }, `${words}: all ${count(many)}`)) : null;

// One cause is one row: how many tasks it has, of which runs, from when to when.
function brokenCard(said, reload, live) {
  const shown = said.broken.causes.slice(0, 6);
  return card("Failed, and not mended", list(shown.map((each) => el("div", { class: "item" },
    el("div", {}, mark("failed"), name(errorLine({ type: each.error_type, message: each.message })), el("div", { class: "quiet" },
      each.count > 1 ? `${counted(each.count, "task")}${each.runs.length ? ` of ${counted(each.runs.length, "run")}${each.runs.length < NAMED ? "" : " or more"}` : ""}, from ` : "",
      each.count > 1 ? [when(Date.parse(each.first) / 1000), " to "] : "", when(Date.parse(each.last) / 1000)),
    el("div", { class: "quiet" }, each.tasks.slice(0, 3).map((task) => el("div", {}, taskLink(task))),
      each.count > 3 ? `and ${count(each.count - 3)} more` : "")),
    live ? actAfterAsking(each.count > 1 ? "Run the first again" : "Run again", `rerun-${each.tasks[0]}`, { operation: "rerun_task", subject: each.tasks[0] }, reload,
      { "aria-label": `Run again: ${each.tasks[0]}` }) : null)), "Nothing. What failed was run again, and has completed."),
  moreOf(said.broken.count, shown.reduce((sum, each) => sum + each.count, 0), BROKEN, "What failed"));
}

const peopleCard = (said) => card("Waits for a person", list(said.questions.first.slice(0, 8).map((each) => [
  el("div", {}, mark("blocked"), el("a", { href: href("questions"), class: "name" }, each.text)),
  el("div", { class: "quiet" }, "asked ", when(each.asked), each.due ? [", until ", when(each.due)] : "")]), "Nobody is asked anything."),
moreOf(said.questions.count, 8, href("questions"), "Questions"));

function lateCard(said) {
  const zones = Object.fromEntries(said.schedules.map((each) => [each.name, each.zone]));
  const items = [
    ...said.verdict.points.filter((each) => each.of === "holds").map((each) => [mark("suspended"), el("b", {}, each.text)]),
    ...said.late.map((each) => [mark(each.state === "late" ? "blocked" : each.state), each.kind === "run" ? runLink(each.id) : link("schedules", each.id),
      ": ", name(each.text), each.at ? [", due ", when(each.at, zones[each.id])] : ""]),
  ];
  const rest = items.length - 12 + said.slow_runs - said.slow.length;
  return card("Late, slow, or on hold", list(items.slice(0, 12), "Nothing."), rest > 0 ? el("p", { class: "quiet" }, `and ${count(rest)} more`) : null);
}

export const alertsTable = (alerts, empty) => table(["Alert", "State", "Since", "!Measured", "!What is done"], alerts.map((each) => [
  [name(each.name), below(each.subject ? `of ${each.subject}` : "")], [state(each.state), below(each.severity)], when(each.since), name(each.message || "–"), name(each.action || "–")]), empty);

const alertsOf = (alerts) => {
  const firing = alerts.filter((each) => each.state === "firing" || each.state === "pending");
  return firing.length ? card("Alerts", alertsTable(firing, "")) : null;
};

// Each phase of each run, or the run itself if it has none.
export const progressOf = (runs) => table(["Run", "Phase", "#Total", "#Completed", "Share", "#Running", "#Blocked", "State"],
  runs.flatMap((run) => {
    const phases = Object.values(run.phases || {});
    const total = Object.keys(run.tasks).length;
    const rows = phases.length ? phases : [{ name: "–", total, completed: run.counts.completed || 0,
      running: run.counts.running || 0, blocked: run.counts.blocked || 0, state: run.pause || run.state }];
    return rows.map((each, i) => [i ? "" : runLink(run.workflow_id), name(each.name), count(each.total), count(each.completed),
      [meter(each.completed, each.total, `${run.workflow_id}, ${each.name}: completed`), ` ${each.total ? Math.floor(100 * each.completed / each.total) : 100} %`],
      count(each.running), count(each.blocked), state(each.verdict || each.state)]);
  }), "");

// -- load ------------------------------------------------------------------------------

export function canvasOf(height, label) {
  const canvas = el("canvas", { role: "img", "aria-label": label });
  canvas.style.height = `${height}px`;
  return canvas;
}

export function prepared(canvas, height) {
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
  const [pen, width] = prepared(canvas, 90);
  const most = Math.max(1, ...rates.map(([good, bad]) => good + bad));
  const step = width / rates.length;
  rates.forEach(([good, bad], i) => {
    const high = (good / most) * 70;
    const low = (bad / most) * 70;
    pen.fillStyle = colour("--bar-completed");
    pen.fillRect(i * step, 88 - high, Math.max(1, step - 1), high);
    pen.fillStyle = colour("--bar-failed");
    pen.fillRect(i * step, 88 - high - low, Math.max(1, step - 1), low);
  });
  pen.fillStyle = colour("--ink");
  pen.font = "12px system-ui, sans-serif";
  pen.fillText(`${count(most)} a second`, 6, 14);
}

// -- the page ----------------------------------------------------------------------------

export async function overviewPage(route) {
  const by = route.query.by === "ticks" ? "ticks" : "days";
  const until = route.query.until || "";
  const parts = Object.fromEntries(["verdict", "grid", "cards", "alerts", "latest", "phases", "tiles", "full", "types", "causes", "checks"]
    .map((each) => [each, el("div")]));
  const keep = Object.fromEntries(Object.entries(parts).map(([each, part]) => [each, keeper(part)]));
  parts.cards.className = "cards";
  parts.tiles.className = "tiles";
  const rates = canvasOf(90, "Tasks that ended in each of the last 120 seconds; said in words below");
  const ended = el("p", { class: "quiet" });
  let board = null;
  let said = null;
  let drawnAt = 0;
  let loaded = false;

  const show = () => {
    if (!said) return;
    const live = Boolean(board?.live && board.health.live);
    keep.verdict([said.verdict, said.is_reading, said.lost], () => verdictOf(said));
    keep.grid(said.schedules, () => said.schedules.length ? card("", el("div", { class: "row" }, el("h2", {}, by === "days" ? "Nights" : "Latest runs"), switches()),
      gridOf(said, by), legend()) : []);
    keep.cards([said.broken, said.questions, said.late, said.verdict, live], () =>
      [brokenCard(said, load, live), peopleCard(said), lateCard(said)]);
    keep.latest(said.runs.slice(0, 8).map((each) => [each.id, each.state, each.completed, each.ended]), () => said.runs.length ? card("Latest runs", table(
      ["Run", "State", "Started", "#Took", "#Completed", "Begun by"], said.runs.slice(0, 8).map((each) => [runLink(each.id), state(each.state, each.outcome),
        when(each.started ?? each.submitted), lasting(each.seconds), `${count(each.completed)} of ${count(each.total)}`, each.began_by]), ""),
    el("p", {}, el("a", { href: href("runs") }, "All runs"))) : []);
  };
  const switches = () => [
    el("a", { href: href("", "", { by: by === "days" ? "ticks" : "", until }) }, by === "days" ? "Show the latest runs" : "Show nights"),
    by === "days" ? el("a", { href: href("", "", { until: dayBefore(said, until) }) }, "Earlier nights") : null,
    until ? el("a", { href: href("") }, "Latest nights") : null];
  const load = async () => {
    loaded = true;
    const asked = new URLSearchParams({ by, days: String(DAYS), ...(until ? { until } : {}) });
    said = await ask(`/api/v1/nights?${asked}`);
    show();
    if (!board?.live) return;
    const active = said.runs.filter((each) => !each.ended || each.state === "blocked").slice(0, 5);
    const [{ alerts }, ...all] = await Promise.all([ask("/api/v1/alerts"),
      ...active.map((each) => ask(`/api/v1/workflows/${encodeURIComponent(each.id)}`).catch(() => null))]);
    keep.alerts(alerts, () => alertsOf(alerts));
    const open = all.filter(Boolean);
    keep.phases(open, () => open.length ? card("Progress", progressOf(open)) : []);
  };
  load().catch(() => { loaded = false; });
  return {
    parts: [el("h1", {}, "Overview"), parts.verdict, parts.grid, parts.cards, parts.alerts, parts.phases, parts.latest,
      el("h2", { id: "load" }, "Load"), parts.tiles, card("Ended, a second", rates, ended), el("div", { class: "cards" },
        card("Saturation", parts.full), card("Failures by cause", parts.causes), card("Health", parts.checks)), card("Types of tasks", parts.types)],
    stop: every(1500, load, () => !loaded || Boolean(said?.is_reading)),
    update(latest) {
      const first = board === null;
      board = latest;
      if (first && latest.live) load().catch(() => {});
      show();
      const numbers = latest.statistics;
      keep.tiles(numbers.state_machine, () => STATES.map((each) =>
        el("a", { class: "tile", id: `tile-${each}`, href: href("tasks", "", { state: each }) },
          state(each), el("b", { id: `count-${each}` }, count(numbers.state_machine[each])))));
      parts.tiles.dataset.heard = latest.heard;
      // A picture of seconds needs no more than four a second.
      if (performance.now() - drawnAt > 250) {
        drawnAt = performance.now();
        drawRates(rates, latest.rates);
      }
      const minute = latest.rates.slice(-60);
      const [good, bad] = [0, 1].map((i) => minute.reduce((sum, each) => sum + each[i], 0));
      ended.textContent = `In the last minute ${count(good)} completed and ${count(bad)} failed; ` +
        `${count(numbers.queue.processing)} run, ${count(numbers.queue.queued)} are queued` +
        `${numbers.queue.oldest ? `, the oldest for ${lasting(numbers.queue.oldest)}` : ""}. ` +
        `${count(numbers.retries.scheduled)} were tried again, of which ${count(numbers.retries.recovered)} recovered.`;
      const busy = Object.entries(numbers.agents).filter(([, each]) => each.max_concurrency)
        .map(([agent, each]) => [`worker ${agent}: slots`, each.running, each.max_concurrency]);
      const pools = Object.entries(numbers.resources).map(([pool, each]) => [pool, each.used, each.total]);
      const most = [...busy, ...pools].sort((a, b) => b[1] / (b[2] || 1) - a[1] / (a[2] || 1)).slice(0, 20);
      keep.full(most, () => table(["What", "In use", "#Used"], most.map(([what, used, total]) =>
        [name(what), meter(used, total, `${what}: used`), `${amount(used)} of ${amount(total)}`]),
      "Nothing has a limit: there are neither pools nor workers with slots."));
      keep.causes(numbers.failures, () => table(["Cause", "#Tasks"],
        Object.entries(numbers.failures).sort((a, b) => b[1] - a[1]).slice(0, 50)
          .map(([cause, many]) => [link("tasks", "", cause, { state: "failed" }), count(many)]),
        "Nothing has failed."));
      const some = Object.entries(numbers.types).slice(0, 100);
      keep.types(some, () => table(
        ["Type", "#Completed", "#Failed", "#Median", "#95 of 100", "!Errors"],
        some.map(([type, each]) => [link("tasks", "", type, { type }), count(each.completed), count(each.failed),
          lasting(each.running?.p50), lasting(each.running?.p95),
          name(Object.entries(each.failures || {}).map(([error, many]) => `${error}: ${count(many)}`).join(", "))]),
        "No task has come yet."));
      keep.checks(latest.health.checks, () => table(["Component", "State", "!Detail"],
        latest.health.checks.map((each) => [each.component, state(each.status), name(each.detail)]), ""));
    },
  };
}

// The last day of the nights before those that are shown.
function dayBefore(said, until) {
  const last = until ? new Date(`${until}T12:00:00Z`) : new Date(said.now * 1000);
  return new Date(last.getTime() - said.days * 86400000).toISOString().slice(0, 10);
}
