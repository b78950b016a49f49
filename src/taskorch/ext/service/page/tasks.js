// The list of tasks, the latest first, and the page of one.
import { ask, el, href, Refused } from "/page/page.js";
import { endsCard } from "/page/ends.js";
import {
  act, actAfterAsking, again, amount, below, card, choice, count, counted, errorLine, every, field, filterForm, keeper, lasting, link, name, OVER,
  perform, state, STATES, table, taskLink, textOf, when,
} from "/page/parts.js";
import { questionsIn } from "/page/people.js";

// The names of TaskFilter, but for the state.
const FILTERS = [["id", "Id, with *"], ["type", "Type"], ["agent", "Worker"], ["owner", "Tenant"],
  ["metadata", "Metadata, as JSON"], ["since", "Since: seconds ago, or a date"], ["older_than", "Seconds in this state"]];

// What a list says of a task, besides its columns.
const saidOf = (task) => task.error || task.mended_by || task.rerun
  ? { class: task.error ? "error" : "said", says: [again(task), task.rerun && task.error ? "; " : "", name(errorLine(task.error))] } : null;

export async function tasksPage(route) {
  const query = route.query;
  const found = el("div");
  const keep = keeper(found);
  const fields = FILTERS.map(([key, words]) => field(words, el("input", { id: `by-${key}`, name: key, value: query[key] || "", autocomplete: "off" })));
  const form = filterForm("tasks", [
    field("State", choice("by-state", "state", [["", "any"], ...STATES.map((each) => [each, each])], query.state)),
    field("Run again", choice("by-mended", "mended", [["", "any"], ["false", "not mended since"], ["true", "mended since"]], query.mended)), fields]);
  const load = async () => {
    const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
    asked.set("limit", "100");
    asked.set("newest", "true");
    let said = null;
    try {
      said = await ask(`/api/v1/tasks?${asked}`);
    } catch (error) {
      if (!(error instanceof Refused) || ![400, 422].includes(error.status)) throw error;
      return keep(error.message, () => el("p", { role: "alert" }, `${error.message} ${error.hint}`));
    }
    keep(said, () => {
      const more = said.next ? el("p", {}, el("a", { href: href("tasks", "", { ...query, cursor: said.next }) }, "Earlier ones")) : null;
      return [table(["Task", "State", "Worker", "Submitted", "Started", "#Took"],
        said.tasks.map((task) => [[taskLink(task.run_id), below(task.type)], state(task.state),
          [name(task.agent_id || "–"), below(task.attempts ? counted(task.attempts, "attempt").replace(" ", "\u00a0") : "")], when(task.submitted), when(task.started), lasting(task.duration)]),
        "No task is as you asked. With fewer conditions there may be some.", () => ({}), (at) => saidOf(said.tasks[at])), more].filter(Boolean);
    });
  };
  await load();
  const stop = every(1000, load);
  return { parts: [el("h1", {}, "Tasks"), form, found], stop };
}

export async function taskPage(route, known) {
  const id = encodeURIComponent(route.id);
  const path = `/api/v1/tasks/${id}`;
  const parts = Array.from({ length: 11 }, () => el("div"));
  const [buttons, facts, why, error, spans, history, form, earlier, called, steps, ends] = parts;
  const title = el("h1", {}, "Task ", name(route.id));
  const keep = parts.map(keeper);
  const showAsked = questionsIn(form, () => load());
  const log = el("pre", { tabindex: "0", "aria-label": "Output" });
  // What a program has written, or a function has logged and printed.
  const output = card("Output", log);
  buttons.className = "row";
  output.hidden = true;
  let board = known; // until it is known whether it is live, nothing is offered
  let running = false;
  let next = null;
  let stepsTold = "";
  let told = ""; // of which run, ended or not, the earlier ones are shown
  const button = (words, operation, id) => act(words, id, () => perform(operation, route.id), load, { needs: operation });
  const asking = (words, operation, id, more = {}) => actAfterAsking(words, id, { operation, subject: route.id, ...more }, load);
  const load = async () => {
    const [task, said] = await Promise.all([ask(path), ask(`${path}/explanation`).catch(() => null)]);
    running = task.state === "running";
    title.replaceChildren("Task ", name(task.run_id));
    const live = Boolean(board?.live && board.health.live);
    const over = OVER.includes(task.state);
    // What blocks it is a task, or the word for something else that explains itself.
    const kinds = (said?.blockers || []).map((each) => each.kind);
    keep[1]([task, board?.journal, kinds], () => {
      const rows = [["State", [state(task.state), task.label && task.label !== task.state ? ` (${task.label})` : ""]], ["Type", name(task.type)],
        ["Worker", task.agent_id ? link("agents", "", task.agent_id) : "–"],
        ["Attempts", count(task.attempts)], ["Priority", String(task.priority)], ["Tenant", name(task.owner || "–")],
        ["Submitted", when(task.submitted)], ["Started", when(task.started)], ["Ended", when(task.ended)],
        ["Took", lasting(task.duration)]];
      const holds = Object.entries(task.allocation || {}).map(([what, many]) =>
        `${amount(many)} ${what}${task.units?.[what] ? ` (${task.units[what].join(", ")})` : ""}`).join(", ");
      if (holds) rows.push(["Holds", name(holds)]);
      if (task.stopping) rows.push(["Stops", name(task.stopping)]);
      if (task.rerun || task.task_id.includes("~")) rows.push(["Runs", linksOfRuns(task)]);
      if (task.rerun) rows.push(["Since then", again(task)]);
      if (task.stale) rows.push(["Stale", "what it depends on was run again since"]);
      if (task.progress !== null && task.progress !== undefined) rows.push(["Progress", name(JSON.stringify(task.progress))]);
      if (Object.keys(task.metadata || {}).length) rows.push(["Metadata", name(JSON.stringify(task.metadata))]);
      if (task.blocked_by?.length) rows.push(["Blocked by", task.blocked_by.map((each) => [kinds.includes(each) ? each : taskLink(each), " "])]);
      if (task.log_path) rows.push(["Output in", el("code", {}, task.log_path)]);
      if (over) rows.push(["Again, by hand", el("code", {}, `taskorch rerun ${board?.journal || location.origin} ${route.id}`)]);
      rows.push(["Its events", el("a", { href: href("events", "", { task: task.task_id }) }, "as they came")]);
      const run = task.task_id.includes("/") ? task.task_id.split("/")[0] : "";
      if (run) rows.splice(1, 0, ["Run", link("runs", run)]);
      return el("dl", {}, rows.map(([word, value]) => [el("dt", {}, word), el("dd", {}, value)]));
    });
    const isHeld = (said?.blockers || []).some((each) => each.remedies?.some((remedy) => remedy.kind === "decide"));
    const isAsked = !over && live && (board?.questions || task.type === "question")
      ? (await ask("/api/v1/questions").catch(() => ({ questions: [] }))).questions.filter((each) =>
        each.tasks.includes(task.task_id)) : [];
    keep[0]([task.state, live, isAsked.length, isHeld], () => live ? [
      over ? null : asking("Cancel", "cancel_task", "cancel", { danger: true, wantsReason: true }),
      over || task.state === "suspended" ? null : button("Suspend", "suspend_task", "suspend"),
      task.state === "suspended" ? button("Resume", "resume_task", "resume") : null,
      over ? asking("Run again", "rerun_task", "rerun") : null,
      isHeld && !isAsked.length ? asking("Retry", "decide", "retry", { body: { verdict: "retry" } }) : null,
      isHeld && !isAsked.length ? asking("Give up", "decide", "fail", { body: { verdict: "fail" }, danger: true }) : null,
    ].filter(Boolean) : []);
    keep[10](live && !over, () => live && !over ? endsCard(route.id, load) : []);
    showAsked(isAsked);
    keep[4]([task.history, Math.floor((board?.now || 0) / 5)], () => spansOf(task, board?.now || Date.now() / 1000));
    keep[5]([task.history, task.earlier_errors, task.recovery_attempts, task.late_results], () => [
      table(["When", "State", "!Why"], (task.history || []).map((each) =>
        [when(each.at), state(each.label || each.state), name(String(each.detail || ""))]), "Nothing yet."),
      ...tried("Earlier errors", ["#Attempt", "!Error", "Where"], Object.entries(task.earlier_errors || {}).map(([number, each]) =>
        [number, name(`${each.type}: ${each.message}`), name(each.where || "")])),
      ...tried("Tried to mend it", ["#Attempt", "What", "!Came to"], (task.recovery_attempts || []).map((each) =>
        [each.attempt, name(`${each.action} (${each.kind})`), name(`${each.result} ${each.message}`)])),
      ...tried("Results that came too late", ["#Attempt", "!Result"], Object.entries(task.late_results || {}).map(([number, each]) =>
        [number, name(JSON.stringify(each))]))]);
    if (over) {
      const result = await ask(`${path}/result`).catch((failed) => failed);
      keep[3](result.message || result, () => result instanceof Error ? card("Result", el("p", { class: "name" }, `${result.message}. ${result.hint || ""}`)) : result.error
        ? card("Error", el("p", { class: "state failed name" }, `${result.error.type}: ${result.error.message}`),
          result.error.hint ? el("p", {}, result.error.hint) : null, result.error.where ? el("p", {}, result.error.where) : null,
          result.error.traceback ? el("pre", { tabindex: "0", "aria-label": "Traceback", id: "traceback" }, textOf(result.error.traceback)) : null)
        : card("Result", el("pre", { tabindex: "0", "aria-label": "Result" }, String(textOf(result.result)).slice(0, 20000))));
    } else keep[3](null, () => []);
    // Those are asked for again once they may have changed.
    const stepsNow = `${task.run_id} ${task.state} ${task.attempts} ${live} ${(said?.notes || []).join()}`;
    if (task.attempts && stepsNow !== stepsTold) {
      const kept = (await ask(`${path}/steps`).catch(() => null))?.steps;
      if (kept) stepsTold = stepsNow;
      keep[9]([kept, live, over, task.rerun], () => kept?.length ? card("Steps", table(["Step", "Began", "#Took", "What became of it", "!Called with", ""],
        kept.map((step) => [name(step.key), when(step.began), lasting(step.seconds), step.error ? [name(step.error), below(step.state)] : step.child ? [step.state, el("div", { class: "quiet" }, taskLink(step.child))] : step.state,
          name(`${step.function}${step.arguments}`), live && over && !task.rerun && (step.state !== "left" || step.child)
            ? asking("Begin again here", "fork", `fork-${step.key}`, { body: { at: step.key }, query: { at: step.key } }) : ""]), "")) : []);
    }
    keep[2](said?.text, () => said ? card("Why", el("p", { class: "name lines" }, said.text)) : []);
    if (`${task.run_id} ${over}` !== told) {
      const before = await ask(`${path}/earlier`).catch(() => null);
      if (before) told = `${task.run_id} ${over}`;
      keep[7](before?.runs, () => before && before.runs.length > 1 ? card("Its runs, and the same task in earlier runs", runsOf(before.runs, task.run_id)) : []);
      keep[8](before?.arguments, () => before?.arguments.length ? card("Called with", el("dl", { id: "arguments" }, before.arguments.map(([key, value]) =>
        [el("dt", {}, key), el("dd", {}, el("code", {}, value))]))) : []);
    }
    const part = await ask(`${path}/log${next === null ? "" : `?after=${next}`}`).catch(() => null);
    if (part?.exists) {
      if (next === null || part.next < next) log.textContent = "";
      next = part.next;
      output.hidden = false;
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
      if (part.text) log.append(part.text);
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
  };
  await load();
  return {
    parts: [title, buttons, form, error, el("div", { class: "cards" }, card("About it", facts), why), ends, called, earlier,
      steps, card("Attempts and waits", spans), card("History", history), output],
    stop: every(1000, load, () => running),
    update(said) {
      const first = board === null;
      board = said;
      if (first) load().catch(() => {});
    },
  };
}

// The runs of a task, the latest first; this one is told apart.
const runsOf = (runs, current) => table(["Run", "State", "Started", "#Took", "#Attempts", "Worker", "!Error"], runs.map((each) => [
  each.run_id === current ? el("b", { "aria-current": "true", class: "name" }, each.run_id) : taskLink(each.run_id), state(each.state), when(each.started),
  lasting(each.seconds), count(each.attempts), name(each.agent || "–"), name(errorLine(each.error) || "–")]), "");

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
  const isOver = OVER.includes(task.state);
  const begin = steps[0].at;
  const end = isOver ? steps[steps.length - 1].at : Math.max(now, steps[steps.length - 1].at);
  const scale = 100 / Math.max(1e-9, end - begin);
  let attempt = 0;
  return table(["What", "After", "Took", "Picture"], steps.slice(0, isOver ? -1 : undefined).map((step, i) => {
    const until = steps[i + 1]?.at ?? end;
    const bar = el("span", { class: `span ${step.state}` });
    bar.style.insetInlineStart = `${Math.min(99.5, (step.at - begin) * scale)}%`;
    bar.style.width = `${Math.max(0.5, (until - step.at) * scale)}%`;
    if (step.state === "running") attempt += 1;
    return [step.state === "running" ? `attempt ${attempt}` : step.state, lasting(step.at - begin), lasting(until - step.at),
      el("span", { class: "spans", "aria-hidden": "true" }, bar)];
  }), "It ended as it came.");
}
