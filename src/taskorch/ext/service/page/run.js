// One run: what failed, its graph, its tasks with their attempts on one line, and how it differs from another.
import { ask, el, go, href } from "/page/page.js";
import { endsCard } from "/page/ends.js";
import { graphOf } from "/page/graph.js";
import { progressOf } from "/page/overview.js";
import {
  act, actAfterAsking, card, cell, count, counted, errorLine, every, field, keeper, lasting, link, mark, name, perform,
  runLink, state, taskLink, when, whenText,
} from "/page/parts.js";
import { questionsIn } from "/page/people.js";

const nowOf = (board) => board?.now || Date.now() / 1000;

// -- attempts on a line ---------------------------------------------------------------

// Where the attempts of all tasks lie: [begin, end] in seconds.
function bounds(spans, now) {
  const begins = spans.map(([begin]) => begin);
  const ends = spans.map(([, end]) => end ?? now);
  const begin = begins.reduce((least, each) => Math.min(least, each), Infinity);
  const end = ends.reduce((most, each) => Math.max(most, each), -Infinity);
  return [begin, Math.max(end, begin + 1e-6)];
}

function barsOf(spans, [begin, end], now) {
  const scale = 100 / (end - begin);
  return el("span", { class: "spans", "aria-hidden": "true" }, spans.map(([from, to, state]) => {
    const bar = el("span", { class: `span ${state}`, title: `${whenText(from)}, ${lasting((to ?? now) - from)}: ${state}` });
    bar.style.insetInlineStart = `${Math.min(99.6, (from - begin) * scale)}%`;
    bar.style.width = `${((to ?? now) - from) * scale}%`;
    return bar;
  }));
}

// -- how it differs from another run ---------------------------------------------------

const withMaps = (said) => [...said.tasks, ...Object.values(said.maps).flatMap((map) => map.first)];

function comparison(said, compared) {
  const task = (each) => {
    const found = withMaps(said).find((one) => one.name === each.task);
    return found ? [mark(found.state), taskLink(found.id, found.id, found.name), ": "] : each.task ? [name(each.task), ": "] : [];
  };
  return card("Compared", el("p", { id: "compared" }, "With ", runLink(compared.earlier), ". ", compared.text.split("\n")[0]),
    compared.differences.length ? el("ol", {}, compared.differences.slice(0, 100).map((each) => el("li", {}, task(each), each.text)))
      : el("p", { class: "quiet" }, "No difference is known."),
    compared.unknown.map((each) => el("p", { class: "quiet" }, `Not known: ${each}.`)),
    el("p", {}, el("a", { href: href("runs", said.run.id) }, "Compare no more")));
}

// -- the tasks ---------------------------------------------------------------------------

const ORDER = ["failed", "blocked", "retrying", "running", "suspended", "cancelled"];
export const urgency = (each) => ORDER.includes(each.state) ? ORDER.indexOf(each.state) : ORDER.length;

const HEADS = [["Task"], ["State"], ["Attempts", "number"], ["Worker"], ["Started"], ["Took", "number"], ["When attempts ran", "bars"]];
// The last cells of a row, as many as there are.
const cells = (...contents) => contents.map((content, i) => {
  const [head, kind = null] = HEADS[HEADS.length - contents.length + i];
  return cell(head, content, { class: kind });
});
const taskLinks = (each) => [taskLink(each.id, each.id, each.name), each.stale ? el("span", { class: "quiet" }, " stale") : null];

// The steps of a task, below it, once they are asked for.
const stepsBelow = (each, steps) => el("tr", { class: "below" }, el("td", { colspan: 7, id: `steps-${each.name}` }, steps.length
  ? el("ol", { class: "plain" }, steps.map((step) => el("li", {}, name(step.text))))
  : el("span", { class: "quiet" }, "It has no steps.")));

function tasksTable(said, unfolded, calls, toggle, now, steps, showSteps) {
  const spans = withMaps(said).flatMap((each) => each.spans);
  const range = spans.length ? bounds(spans, now) : [now - 1, now];
  const rows = [];
  const row = (each, below) => el("tr", { class: below ? "below" : null, id: `row-${each.name}` },
    cells(taskLinks(each), state(each.state), [count(each.attempts), each.attempts && showSteps ? el("div", {}, el("button", { type: "button", class: "link", id: `show-steps-${each.name}`,
      "aria-expanded": String(steps.has(each.id)), onclick: () => showSteps(each.id) }, "steps")) : null], name(each.agent || "–"), when(each.started), lasting(each.seconds),
      barsOf(each.spans, range, now)));
  // An error has a line of its own, below its task; of what only lacks another, one word is enough.
  const withError = (each, below) => {
    const part = row(each, below);
    const more = steps?.has(each.id) ? [stepsBelow(each, steps.get(each.id))] : [];
    if (!each.error) return [part, ...more];
    part.classList.add("has-error");
    const words = each.error.type === "DependencyFailedError" ? (each.blocked_by.length ? `since this did not complete: ${each.blocked_by.join(", ")}` : each.error.message) : errorLine(each.error);
    return [part, el("tr", { class: below ? "below error" : "error" }, el("td", { colspan: 7 }, name(words))), ...more];
  };
  for (const each of said.tasks) {
    rows.push(...withError(each, false));
    const map = said.maps[each.name];
    if (!map) continue;
    const many = Object.values(map.states).reduce((sum, one) => sum + one, 0);
    const isOpen = unfolded.has(each.name);
    rows.push(el("tr", { class: "below" }, el("td", { colspan: 2 },
      el("button", { type: "button", class: "link", id: `calls-of-${each.name}`, "aria-expanded": String(isOpen), onclick: () => toggle(each.name) },
        `${isOpen ? "Hide" : "Show"} ${counted(many, "call")}`), " ",
      Object.entries(map.states).map(([which, n]) => [mark(which), `${count(n)} ${which} `])),
    cells(count(map.attempts), "–", when(map.started), map.longest === null ? "–" : `≤ ${lasting(map.longest)}`,
      barsOf(map.first.flatMap((call) => call.spans), range, now))));
    if (isOpen) {
      const shown = calls.get(each.name) || map.first;
      rows.push(...shown.flatMap((call) => withError(call, true)));
      if (shown.length < many) rows.push(el("tr", { class: "below" }, el("td", { colspan: 7 }, `${count(many - shown.length)} more are not shown.`)));
    }
  }
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Tasks of the run" }, el("table", { id: "tasks-of-run", class: "rows" },
    el("thead", {}, el("tr", {}, HEADS.map(([head, kind]) => el("th", { scope: "col", class: kind === "number" ? kind : null }, head)))),
    el("tbody", {}, rows)));
}

// -- the page ------------------------------------------------------------------------------

export async function runPage(route) {
  const id = route.id;
  const other = route.query.with || "";
  const parts = Object.fromEntries(["title", "facts", "buttons", "broken", "ends", "compared", "graph", "phases", "asked", "list"].map((each) => [each, el("div")]));
  const keep = Object.fromEntries(Object.entries(parts).map(([each, part]) => [each, keeper(part)]));
  parts.buttons.className = "row";
  const showAsked = questionsIn(parts.asked, () => load());
  const unfolded = new Set();
  const calls = new Map();
  const steps = new Map();
  let board = null;
  let said = null;
  let compared = null;
  let words = "";

  const toggle = async (task) => {
    if (unfolded.delete(task)) return show();
    unfolded.add(task);
    show();
    if (said.maps[task].left_out) {
      calls.set(task, (await ask(`/api/v1/runs/${encodeURIComponent(id)}?under=${encodeURIComponent(task)}`)).tasks);
      show();
    }
  };
  const askSteps = async (task) => steps.set(task, (await ask(`/api/v1/tasks/${encodeURIComponent(task)}/steps`).catch(() => null))?.steps || []);
  const showSteps = async (task) => {
    if (!steps.delete(task)) await askSteps(task);
    show();
  };
  const button = (text, verb) => act(text, verb, () => perform(`${verb}_workflow`, id), load, { needs: `${verb}_workflow` });
  const show = () => {
    const run = said.run;
    const now = nowOf(board);
    const live = Boolean(board?.live && board.health.live) && run.workflow !== false;
    const isOver = Boolean(run.ended);
    keep.facts([run, said.attempts, said.last_good, words], () => [el("dl", { class: "facts" }, [
      ["State", state(run.state, run.outcome)], ["Schedule", run.schedule ? link("schedules", run.schedule) : "–"], ["Tick", when(run.slot, run.zone)],
      ["Begun by", run.began_by || "–"], ["Started", when(run.started)], ["Ended", when(run.ended)], ["At work", lasting(run.seconds)],
      ["Tasks", `${count(run.completed)} of ${count(run.total)} completed`], ["Attempts", count(said.attempts)],
      ["Runs again", count(run.reruns)], ...(run.definition ? [["Definition", run.definition]] : [])].map(([word, value]) => el("div", {}, el("dt", {}, word), el("dd", {}, value)))),
    words ? el("p", { class: "quiet" }, words) : null]);
    keep.buttons([live, run.state, isOver, said.last_good, other], () => [
      live && (run.state === "failed" || run.state === "cancelled" || run.failed || run.allowed) ? actAfterAsking("Run what failed again", "restart", { operation: "restart_workflow", subject: id }, load) : null,
      live && !isOver && run.state !== "suspended" ? button("Pause", "pause") : null,
      live && !isOver ? button("Resume", "resume") : null,
      live && !isOver ? actAfterAsking("Cancel", "cancel", { operation: "cancel_workflow", subject: id, danger: true, wantsReason: true }, load) : null,
      other || !board?.live ? null : compareForm()]);
    const gone = said.left_memory;
    const failed = withMaps(said).filter((each) => each.state === "failed" && each.error && each.error.type !== "DependencyFailedError");
    keep.broken(failed, () => failed.length ? card("What failed", el("ul", { class: "plain" }, failed.slice(0, 10).map((each) => el("li", {},
      mark("failed"), taskLink(each.id, each.id, each.name), el("div", { class: "name quiet" }, errorLine(each.error)))))) : []);
    keep.graph([said.tasks.map((each) => [each.name, each.state, each.after]), Object.values(said.maps).map((map) => map.states)], () =>
      said.tasks.length > 1 ? card("Graph", graphOf(said.tasks, said.maps, said.left_out)) : []);
    keep.list([said.tasks, said.maps, [...unfolded], [...calls.keys()], [...steps], isOver || Math.floor(now)], () => [tasksTable(said, unfolded, calls, toggle, now, steps, showSteps),
      said.left_out ? el("p", { class: "quiet" }, `${counted(said.left_out, "task")} more are not shown.`) : null,
      gone ? el("p", { class: "quiet" }, `Of ${counted(gone, "task")} only the state is known: the rest has left memory (keep_finished).`) : null]);
    keep.ends(live && !isOver, () => live && !isOver ? endsCard(id, load, true) : []);
    keep.compared([compared, said.tasks], () => compared ? comparison(said, compared) : []);
  };
  const compareForm = () => el("form", {
    class: "row",
    onsubmit: (event) => {
      event.preventDefault();
      go("runs", id, { with: new FormData(event.target).get("with") });
    },
  }, field("Compare with", el("input", { id: "compare-with", name: "with", value: said.last_good || "", placeholder: "the id of a run" })), el("button", { id: "do-compare" }, "Compare"));
  const load = async () => {
    said = await ask(`/api/v1/runs/${encodeURIComponent(id)}`);
    if (other && (!compared || !said.run.ended)) compared = (await ask(`/api/v1/runs/${encodeURIComponent(other)}/comparison/${encodeURIComponent(id)}`)).comparison;
    if (board?.live && said.run.workflow !== false) {
      const path = `/api/v1/workflows/${encodeURIComponent(id)}`;
      const status = await ask(path).catch(() => null);
      words = status?.text || "";
      keep.phases(status?.phases, () => Object.keys(status?.phases || {}).length ? card("Phases", progressOf([status])) : []);
      const open = status?.asks.length ? (await ask("/api/v1/questions")).questions.filter((each) => each.id.startsWith(`${id}/`)) : [];
      showAsked(open);
    }
    if (!said.run.ended) await Promise.all([...steps.keys()].map(askSteps));
    show();
  };
  await load();
  return {
    parts: [el("h1", {}, "Run ", name(id)), parts.facts, parts.buttons, parts.asked, parts.broken, parts.ends, parts.compared, parts.phases, parts.graph, card("Tasks", parts.list)],
    stop: every(1000, load, () => !said.run.ended),
    update(latest) {
      const first = board === null;
      board = latest;
      if (first) load().catch(() => {});
      else show();
    },
  };
}
