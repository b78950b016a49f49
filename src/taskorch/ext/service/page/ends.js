// When a task or a run ends, and what would have to change for it to be in time: asked when somebody wants to know.
import { ask, el, may } from "/page/page.js";
import { act, card, count, field, perform } from "/page/parts.js";

const lines = (text) => text.split("\n").map((line) => el("p", { class: "name" }, line));
const differs = (each) => each.ends === null ? "What it does to others, nobody had time to see."
  : each.ends.length ? `${each.ends.slice(0, 5).map((other) => other.text).join("; ")}${each.ends.length > 5 ? `; and ${count(each.ends.length - 5)} more` : ""}.` : "Nothing else ends later.";
const every = async (requests) => {
  let said = null;
  for (const { operation, subject, body } of requests) said = await perform(operation, subject, body);
  return said;
};

// Of a run, all of its tasks get the priority.
const priorityOf = (id, value, isRun) => isRun ? ["change_tasks", "", { action: "set_priority", ids: `${id}/*`, priority: value }] : ["set_priority", id, { priority: value }];

export function endsCard(id, after, isRun = false) {
  const said = el("div", { id: "ends", "aria-live": "polite" });
  const by = el("input", { id: "ends-by", autocomplete: "off", placeholder: "18:00, or seconds from now" });
  const priority = el("input", { id: "ends-priority", type: "number", step: 1, autocomplete: "off" });
  const look = async (path) => {
    const asked = by.value.trim() ? `?${new URLSearchParams({ deadline: by.value.trim() })}` : "";
    said.replaceChildren(el("p", { class: "quiet" }, "It is carried out in virtual time …"));
    return ask(`/api/v1/tasks/${encodeURIComponent(id)}/${path}${asked}`).catch((error) => {
      said.replaceChildren();
      throw error;
    });
  };
  const end = async () => {
    said.replaceChildren(...lines((await look("end")).promise.text));
    return null;
  };
  const help = async () => {
    const { in_time: found } = await look("in-time");
    const changes = found.changes.map((each, i) => el("li", {}, el("code", {}, each.call), each.kind === "later" ? ", until it has ended. " : each.kind.includes("slots") ? ", from the next start of the program. " : ". ", differs(each), " ",
      each.requests.length && each.requests.every(({ operation }) => may(operation)) ? act("Do it", `change-${i}`, () => every(each.requests), after) : null));
    said.replaceChildren(...lines(found.promise.text), changes.length ? el("p", {}, "It ends in time, in nine of ten cases, after each of these:") : "",
      changes.length ? el("ul", {}, changes) : "", ...found.unknown.flatMap(lines));
    return null;
  };
  const effect = async () => {
    const value = Number(priority.value || 0);
    const request = priorityOf(id, value, isRun);
    const { what_if: found } = await ask("/api/v1/what-if", { method: "POST", body: { priority: { [id]: value } } });
    said.replaceChildren(may(request[0]) ? el("p", {}, act("Do it", "change-priority", () => perform(...request), after)) : "", el("pre", { tabindex: 0 }, found.text));
    return null;
  };
  return card("When it ends", el("div", { class: "row" }, field("By when", by), act("When does it end?", "when", end, after), act("What would help?", "in-time", help, after)),
    may("what_if") ? el("div", { class: "row" }, field("Priority", priority), act("What would it change?", "what-if", effect, after)) : "", said);
}
