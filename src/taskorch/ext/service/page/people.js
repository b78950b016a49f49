// Whom the orchestrator asks, and what it makes again and again.
import { ask, el, go, href, may, me, say } from "/page/page.js";
import {
  act, actAfterAsking, askFirst, card, choice, clip, count, errorLine, every, field, keeper, lasting, link, mark, meter, myName, name, perform,
  runLink, state, table, taskLink, textOf, when,
} from "/page/parts.js";

// What is asked, each with one form: a question, an approval, an escalation. What somebody writes into one stays there.
export function questionsIn(list, after, none = "") {
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
  const labelled = (key, words, more = {}) => {
    const input = el("input", { id: `${key}-${each.id}`, name: key, autocomplete: "off", ...more });
    return [input, field(words, input)];
  };
  const [by, byLabel] = labelled("by", "Your name", { required: !me?.name, value: myName() });
  const [note, noteLabel] = labelled("note", "Note");
  const example = each.kind === "escalation" ? '{"timeout": 600}' : null;
  const [changes, changesLabel] = labelled("changes", "Changes, as JSON", { placeholder: example });
  const about = el("div");
  const keep = keeper(about);
  const part = el("section", { class: "card", "aria-label": each.text }, el("h2", {}, name(each.text)), about,
    el("form", {
      class: "row",
      onsubmit: async (event) => {
        event.preventDefault();
        const button = event.submitter;
        button.disabled = true;
        try {
          const body = { choice: button.value };
          if (!me?.name) {
            body.by = by.value;
            localStorage.setItem("taskorch-name", by.value);
          }
          if (note.value) body.note = note.value;
          if (changes.value.trim()) body.changes = JSON.parse(changes.value);
          // The answer is for what is shown here, whatever was asked since.
          const said = await perform("answer", each.answer_to, body);
          say(said.decided ? "" : "Your answer is kept; more are needed to decide it.");
          await after();
        } catch (failed) {
          say(failed instanceof SyntaxError ? `The changes are no JSON: ${failed.message}` : `${failed.message} ${failed.hint || ""}`);
        }
        button.disabled = false;
      },
    }, may("answer") ? [me?.name ? null : byLabel, noteLabel, changesLabel, each.options.map((option) => el("button", { value: option }, option))] : null));
  // How much waits and runs changes all the time.
  return { part, show: (latest) => keep({ ...latest, system_state: null, details: { ...latest.details, system_state: null } }, () => aboutQuestion(latest)) };
}

export async function questionsPage() {
  const list = el("div");
  const load = async () => show((await ask("/api/v1/questions")).questions);
  const show = questionsIn(list, load, "Nobody is asked anything.");
  await load();
  return { parts: [el("h1", {}, "Questions"), list], stop: every(1000, load) };
}


// -- schedules ------------------------------------------------------------------------

const standing = (each) => each.paused ? [mark("suspended"), "on hold"] : [mark("completed"), "active"];
const whenOf = (definition) => typeof definition.when === "number" ? `every ${lasting(definition.when)}` : String(definition.when);

export async function schedulesPage(route) {
  if (route.id) return schedulePage(route.id);
  const list = el("div");
  const keep = keeper(list);
  const load = async () => {
    const said = await ask("/api/v1/schedules");
    keep(said, () => table(["Schedule", "When", "Makes", "Next", "Done until", "State", "Acts"], said.schedules.map((each) => [
      link("schedules", each.name), [el("code", {}, whenOf(each.definition)), each.definition.zone ? el("div", { class: "quiet" }, each.definition.zone) : ""], name(each.makes),
      when(each.next, each.definition.zone), when(each.done, each.definition.zone),
      [standing(each),
        each.running.length ? el("div", {}, "runs: ", each.running.slice(0, 5).map((id) => [runLink(id), " "])) : ""],
      el("div", { class: "row" }, actsOf(each, load))]), "There are no schedules.", () => ({}), (at) => saidOf(said.schedules[at])));
  };
  await load();
  return { parts: [el("h1", {}, "Schedules"), card("", list)], stop: every(2000, load) };
}

// What a list says of a schedule, besides its columns.
function saidOf(each) {
  const says = [each.paused, each.trouble].filter(Boolean).map((text) => el("div", {}, name(text)));
  if (each.failing) says.push(el("div", {}, mark("failed"), name(each.failing)));
  return says.length ? { class: "said", says } : null;
}

// What can be done with a schedule, wherever it is shown.
function actsOf(each, after) {
  const pause = () => act("Pause", `pause-${each.name}`, () => perform("pause_schedule", each.name, myName() ? { reason: `paused by ${myName()}` } : {}), after, { needs: "pause_schedule", "aria-label": `Pause: ${each.name}` });
  const resume = () => act("Resume", `resume-${each.name}`, () => perform("resume_schedule", each.name), after, { needs: "resume_schedule", "aria-label": `Resume: ${each.name}` });
  return [each.paused ? resume() : pause(), actAfterAsking("Run now", `trigger-${each.name}`, { operation: "trigger_schedule", subject: each.name },
    async (made) => { await after(); say(`Made: ${made.ids.join(", ")}`); }, { "aria-label": `Run now: ${each.name}` })];
}

// One schedule: what it has made, tick by tick; a backfill; its times, which can be changed.
async function schedulePage(scheduleName) {
  const parts = Object.fromEntries(["facts", "acts", "backfills", "history"].map((each) => [each, el("div")]));
  const keep = Object.fromEntries(Object.entries(parts).map(([each, part]) => [each, keeper(part)]));
  parts.acts.className = "row";
  const path = `/api/v1/schedules/${encodeURIComponent(scheduleName)}`;
  const load = async () => {
    const [each, nights, filled] = await Promise.all([ask(path), ask("/api/v1/nights?by=ticks&days=100"),
      ask(`/api/v1/backfills?name=${encodeURIComponent(scheduleName)}`)]);
    const zone = each.definition.zone;
    const ticks = nights.schedules.find((one) => one.name === scheduleName)?.cells || [];
    keep.facts(each, () => [el("dl", { class: "facts" }, [["State", standing(each)], ["When", el("code", {}, whenOf(each.definition))],
      ["Zone", zone || "–"], ["Makes", name(each.makes)], ["Next", when(each.next, zone)], ["Done until", when(each.done, zone)],
      ["Catches up", each.definition.catch_up || "last"], ["If the run before goes on", each.definition.overlap || "skip"]].map(([word, value]) =>
      el("div", {}, el("dt", {}, word), el("dd", {}, value)))), ...[each.paused, each.trouble].filter(Boolean).map((text) => el("p", {}, mark("suspended"), name(text))),
    each.failing ? el("p", {}, mark("failed"), name(each.failing)) : null,
    each.coming.length ? el("p", { class: "quiet" }, "Coming: ", each.coming.map((at, i) => [i ? ", " : "", when(at, zone)])) : null]);
    keep.acts([each.paused], () => [actsOf(each, load), actAfterAsking("Remove", `remove-${each.name}`, { operation: "remove_schedule", subject: each.name, danger: true },
      () => go("schedules"))]);
    keep.backfills(filled, () => filled.backfills.length ? card("Backfills", backfillsTable(filled.backfills, zone, load)) : []);
    keep.history(ticks, () => table(["Tick", "State", "Run", "Started", "#At work", "#Completed", "Begun by", "!Error, or why not"], ticks.map((tick) => tick.run
      ? [when(tick.run.slot, zone), state(tick.run.state, tick.run.outcome), runLink(tick.run.id), when(tick.run.started), lasting(tick.run.seconds),
        `${count(tick.run.completed)} of ${count(tick.run.total)}`, tick.run.began_by, name(errorLine(tick.run.error) || "–")]
      : [when(tick.at, zone), [mark(tick.state), tick.states.skipped > 1 ? `${count(tick.states.skipped)} skipped, up to this one` : tick.state], "–", "–", "–", "–", "–", name(tick.reason || "–")]),
    "It has made nothing yet."));
  };
  await load();
  const said = await ask(path);
  return {
    parts: [el("h1", {}, "Schedule ", name(scheduleName)), parts.facts, parts.acts, el("div", { class: "cards" }, may("backfill_schedule") ? backfillCard(scheduleName, load) : null,
      may("edit_schedule") ? editCard(said, load) : null),
      parts.backfills, card("History", parts.history)],
    stop: every(2000, load),
  };
}

// How far each backfill came, and what can be done with it.
function backfillsTable(backfills, zone, after) {
  const change = (words, verb, each) => act(words, `${verb}-${each.backfill_id}`, () => perform(`${verb}_backfill`, each.backfill_id,
    verb === "pause" && myName() ? { reason: `paused by ${myName()}` } : {}), after, { needs: `${verb}_backfill`, "aria-label": `${words}: ${each.backfill_id}` });
  return table(["Backfill", "!State", "From", "To", "!Ticks", "!Begun", "Acts"], backfills.map((each) => [
    name(each.backfill_id), [each.state, ...[each.cancelled || each.paused || each.trouble].filter(Boolean).map((text) => [": ", name(text)])],
    when(each.since, zone), when(each.until, zone),
    [meter(each.ticks - each.left - each.running.length - each.blocked.length, each.ticks, `${each.backfill_id}: over`),
      ` ${count(each.done)} done, ${count(each.failed)} failed, ${count(each.running.length + each.blocked.length)} running, ${count(each.left)} to come`],
    [when(each.begun, zone), " by ", name(each.by || "a program")],
    el("div", { class: "row" }, each.left && each.state !== "cancelled" ? [each.paused ? change("Resume", "resume", each) : change("Pause", "pause", each),
      actAfterAsking("Cancel", `cancel-${each.backfill_id}`, { operation: "cancel_backfill", subject: each.backfill_id, danger: true, wantsReason: true }, after,
        { "aria-label": `Cancel: ${each.backfill_id}` })] : "–")]));
}

// A backfill shows what it would make before anybody asks for it.
function backfillCard(subject, after) {
  const input = (id, key, words) => field(words, el("input", { id, name: key, type: "datetime-local", required: true }));
  return card("Backfill", el("p", { class: "quiet" }, "Makes what the schedule would have made between two times, in its own zone. A tick that has its run keeps it."), el("form", {
    class: "row",
    onsubmit: async (event) => {
      event.preventDefault();
      const { since, until, limit } = Object.fromEntries(new FormData(event.target));
      try {
        const asked = await askFirst({ title: `Backfill: ${clip(subject, 120)}`, operation: "backfill_schedule", subject, query: { since, until }, button: "Backfill" });
        if (!asked) return;
        const made = await perform("backfill_schedule", subject, { since, until, limit: Number(limit), by: asked.by });
        await after();
        say(`To run: ${count(made.ids.length - made.already.length)} of ${count(made.ids.length)}.`);
      } catch (failed) {
        say(`${failed.message} ${failed.hint || ""}`);
      }
    },
  }, input("backfill-since", "since", "From"), input("backfill-until", "until", "To"),
  field("At a time", el("input", { id: "backfill-limit", name: "limit", type: "number", min: 1, max: 1000, value: 1, required: true })), el("button", { id: "do-backfill" }, "Preview …")));
}

// The times of a schedule can be changed; what it makes, only its program says.
function editCard(said, after) {
  const { definition } = said;
  const text = (key, words, value) => field(words, el("input", { id: `edit-${key}`, name: key, value: value ?? "", autocomplete: "off" }));
  return card("Change", el("p", { class: "quiet" }, "If a program declares the schedule, its next start sets these back to what it says."), el("form", {
    class: "row",
    onsubmit: async (event) => {
      event.preventDefault();
      const given = Object.fromEntries(new FormData(event.target));
      try {
        await ask(`/api/v1/schedules/${encodeURIComponent(said.name)}/edit`, { method: "POST", body: given });
        say("");
        await after();
      } catch (failed) {
        say(`${failed.message} ${failed.hint || ""}`);
      }
    },
  }, text("when", "When", whenText(definition.when)), text("zone", "Zone", definition.zone || "UTC"),
  field("Catch up", choice("edit-catch_up", "catch_up", ["last", "all", "none"].map((each) => [each, each]), definition.catch_up || "last")),
  field("Overlap", choice("edit-overlap", "overlap", ["skip", "queue", "cancel"].map((each) => [each, each]), definition.overlap || "skip")),
  el("button", { id: "do-edit" }, "Change")));
}

const whenText = (given) => typeof given === "number" ? `every ${given}s` : String(given);
