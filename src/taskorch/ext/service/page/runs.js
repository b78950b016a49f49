// The list of runs, the latest first: which of them, the address says.
import { ask, el, href } from "/page/page.js";
import {
  below, choice, count, errorLine, every, field, filterForm, keeper, lasting, link, runLink, state, table, when,
} from "/page/parts.js";

const KINDS = [["", "any"], ["open", "not ended"], ["broken", "failed, cancelled or blocked"],
  ...["completed", "mended", "failed", "blocked", "running", "pending", "suspended", "cancelled"].map((each) => [each, each])];

// Of a run of a schedule, these need no word.
const BY_ITSELF = new Set(["clock", "schedule"]);

// Of a field for a day and a time, which is of the zone of the reader, the seconds since 1970.
const seconds = (text) => text ? String(new Date(text).getTime() / 1000) : "";

export async function runsPage(route) {
  const query = route.query;
  const rows = el("div");
  const keep = keeper(rows);
  const input = (key, words, more = {}) => field(words, el("input", { id: `by-${key}`, name: key, value: query[key] || "", autocomplete: "off", ...more }));
  const form = filterForm("runs", [
    input("id", "Run, with *"), input("schedule", "Schedule"), field("State", choice("by-state", "state", KINDS, query.state)),
    input("day", "Night", { type: "date" }), input("since", "Not before", { type: "datetime-local" }), input("until", "Not after", { type: "datetime-local" })]);
  const load = async () => {
    const { since, until, ...rest } = query;
    const asked = new URLSearchParams(Object.entries({ ...rest, since: seconds(since), until: seconds(until) }).filter(([, value]) => value));
    const said = await ask(`/api/v1/runs?${asked}`);
    keep(said, () => [
      said.is_reading ? el("p", { role: "status" }, "The journal is still being read: earlier runs are to come.") : null,
      table(["Run", "State", "Begun by", "Started", "#At work"], said.runs.map((each) => [
        // An error stands below its run: beside it, it would be cut at the edge.
        [runLink(each.id), below(errorLine(each.error))], [state(each.state, each.outcome), el("span", { class: "quiet one" }, ` ${count(each.completed)} of ${count(each.total)}`)],
        // A row is a line, in the zone of the reader: the page of a run has the tick, in that of its schedule.
        each.schedule ? [link("schedules", each.schedule), BY_ITSELF.has(each.by) ? "" : el("span", { class: "quiet one" }, ` ${each.began_by}`)]
          : el("span", { class: "quiet" }, each.began_by),
        when(each.started), lasting(each.seconds)]),
      Object.values(query).some(Boolean) ? "No run is as you asked. With fewer conditions there may be some." : "No run has begun yet."),
      said.next ? el("p", {}, el("a", { href: href("runs", "", { ...query, after: said.next }) }, "Earlier ones")) : null]);
  };
  await load();
  return { parts: [el("h1", {}, "Runs"), form, rows], stop: every(1000, load) };
}
