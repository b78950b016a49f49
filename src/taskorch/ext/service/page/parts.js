// What pages are made of: texts, tables, marks of states, and buttons that act.
import { ask, el, fail, href, may, maySeek, me, news, Refused, say } from "/page/page.js";

export const STATES = ["running", "queued", "pending", "retrying", "blocked", "suspended",
  "completed", "failed", "cancelled"];
export const OVER = ["completed", "failed", "cancelled"];

// -- texts ------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en");
export const count = (number) => whole.format(number ?? 0);
export const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
export const amount = (number) => Number.isInteger(number) ? count(number) : String(Number(number).toPrecision(6) * 1);
export const share = (part) => part === null || part === undefined ? "–" : `${(100 * part).toFixed(1).replace(/\.0$/, "")} %`;
export const clip = (text, most = 300) => text.length > most ? `${text.slice(0, most)}…` : text;

export function lasting(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds < 1e-3) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${(seconds * 1e3).toPrecision(3)} ms`;
  if (seconds < 120) return `${seconds.toPrecision(3)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(1)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} days`;
}

// A moment, with its zone; one of another year, with the year. *given* is a text of ISO 8601, or seconds since 1970.
// Where there is no room, a line ends after the day, and nowhere else.
const formats = new Map();
function formatOf(zone, withYear) {
  const key = `${zone} ${withYear}`;
  if (!formats.has(key)) {
    formats.set(key, new Intl.DateTimeFormat("en-GB", {
      day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short",
      ...(withYear ? { year: "numeric" } : {}), ...(zone ? { timeZone: zone } : {}),
    }));
  }
  return formats.get(key);
}
export function whenText(given, zone = "") {
  if (given === null || given === undefined || given === "") return "–";
  const moment = new Date(typeof given === "number" ? given * 1000 : given);
  const withYear = moment.getFullYear() !== new Date().getFullYear();
  try {
    return onTwoLines(formatOf(zone, withYear).format(moment));
  } catch {
    return onTwoLines(formatOf("", withYear).format(moment)); // a zone that this browser does not know
  }
}
const onTwoLines = (text) => text.replaceAll(" ", "\u00a0").replace(",\u00a0", ", ");
export function when(given, zone = "") {
  if (given === null || given === undefined || given === "") return "–";
  const moment = new Date(typeof given === "number" ? given * 1000 : given);
  return el("time", { datetime: moment.toISOString(), title: moment.toISOString() }, whenText(given, zone));
}

// A short id stays on one line; a word that is too long may be broken, and only such a one.
const classOf = (text) => text.length > 24 || /\s/.test(text) ? "name" : "name one";
const breakable = (text) => text.split(/(?<=\S{24})(?=\S)/).flatMap((piece, i) => i ? [el("wbr"), piece] : piece);
export const name = (text) => el("span", { class: classOf(text), dir: "auto" }, breakable(clip(text)));
export const textOf = (value) => typeof value === "string" ? value
  : Array.isArray(value) && value.every((v) => typeof v === "string") ? value.join("") : JSON.stringify(value, null, 2);
export const errorLine = (error) => error
  ? clip(typeof error === "string" ? error : [error.type, error.message].filter(Boolean).join(": "), 200) : "";

// -- states: by colour, by shape and by word ----------------------------------------

export const mark = (which) => el("span", { class: `mark ${which}`, "aria-hidden": "true" });
export const state = (which, words = which) => el("span", { class: `state ${which}` }, mark(which), words);

// -- links --------------------------------------------------------------------------

export const link = (view, id, text = id, query = {}) =>
  el("a", { href: href(view, id, query), class: classOf(text), dir: "auto", title: text.length > 24 ? clip(text, 1000) : null }, clip(text));
export const taskLink = (id, run = id, text = id) => link("task", run, text);
export const runLink = (id, text = id) => link("runs", id, text);
// What events name is one run of a task, and a bare id means the latest.
export const runOf = (id) => id.includes("~") ? id : `${id}~1`;
export const oneRunLink = (id) => taskLink(id, runOf(id));
export const again = (task) => task.mended_by ? ["mended since by ", taskLink(task.mended_by)]
  : task.rerun ? ["run again as ", taskLink(task.rerun)] : [];

// -- parts --------------------------------------------------------------------------

export const card = (title, ...parts) => el("section", { class: "card" }, title ? el("h2", {}, title) : null, ...parts);
// What belongs to what stands above it in a cell.
export const below = (text) => text ? el("div", { class: "quiet" }, name(text)) : "";
export const section = (title, part) => [el("h2", {}, title), part];
export const meter = (used, most, words) =>
  el("meter", { min: 0, max: most || 1, value: Math.min(used, most || 1), "aria-label": words });

// A head with # before it is of numbers; one with ! before it is of texts that may take several lines.
// On a narrow screen, a row is a card: each cell has its head before it, and one that says nothing is left out.
export const NOTHING = ["", "–"];
export const cell = (head, content, given = {}) => {
  const made = el("td", { "data-head": head, ...given }, content);
  if (NOTHING.includes(made.textContent) && !made.querySelector("canvas, meter, .spans")) made.classList.add("none");
  return made;
};
// What *below* gives of a row stands in a row of its own, as wide as all: an error, or a sentence.
export function table(heads, rows, empty, rowOptions = () => ({}), below = () => null) {
  if (!rows.length) return el("p", { class: "quiet" }, empty);
  const plain = heads.map((head) => head.replace(/^[#!]/, ""));
  const classes = heads.map((head) => head.startsWith("#") ? "number" : head.startsWith("!") ? "long" : null);
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": plain.join(", ") },
    el("table", { class: "rows" },
      el("thead", {}, el("tr", {}, plain.map((head, i) => el("th", { scope: "col", class: classes[i] }, head)))),
      el("tbody", {}, rows.map((row, at) => {
        const more = below(at);
        const made = el("tr", rowOptions(at), row.map((content, i) => cell(plain[i], content, { class: classes[i] })));
        if (!more) return made;
        made.classList.add("has-error");
        return [made, el("tr", { class: more.class }, el("td", { colspan: heads.length }, more.says))];
      }))));
}

export const field = (words, input) => el("label", { class: "field", for: input.id }, words, input);

// A form whose fields stand in the address of a page.
export function filterForm(view, fields, button = "Find") {
  return el("form", {
    class: "row filters",
    onsubmit: (event) => {
      event.preventDefault();
      const sought = Object.fromEntries(new FormData(event.target));
      if (maySeek(...Object.values(sought))) location.hash = href(view, "", sought);
    },
  }, fields, el("button", {}, button));
}
export const choice = (id, key, options, chosen) => el("select", { id, name: key },
  options.map(([value, words]) => el("option", { value, selected: value === (chosen || "") }, words)));

// Does *work* each *ms*, if there was news since, or *always* says so.
export function every(ms, work, always = () => false) {
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

// Refills a part only when what it shows has changed: the focus and the reader's place stay.
export function keeper(part) {
  let before = "";
  return (key, make) => {
    const text = JSON.stringify(key) ?? "";
    if (text === before) return;
    before = text;
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    part.replaceChildren(...[make()].flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false));
    if (focused) document.getElementById(focused)?.focus();
  };
}

export const colour = (which) => getComputedStyle(document.documentElement).getPropertyValue(which).trim();

// -- acts ---------------------------------------------------------------------------

// What can be done, as the service says it: the paths of buttons are no words of this page.
let verbs = null;
export async function perform(operation, subject, body = {}) {
  verbs ??= Object.fromEntries((await ask("/api/v1/verbs")).verbs.map((each) => [each.operation, each]));
  const { path } = verbs[operation];
  return ask(path.replace(/{\w+}/, encodeURIComponent(subject)), { method: "POST", body });
}

export const myName = () => me?.name || localStorage.getItem("taskorch-name") || "";

// Shows what an act will touch, as the server says it now, and asks whether to go on, and who it is.
// Resolves with { by, reason, parameters }, or null.
export function askFirst({ title, operation, subject, query = {}, button, danger = false, wantsReason = false }) {
  return new Promise((resolve) => {
    const touched = el("div", { class: "touched", "aria-live": "polite" }, el("p", { class: "quiet" }, "Looking what it will touch …"));
    const isKnown = Boolean(me?.name);
    const by = el("input", { id: "act-by", name: "by", autocomplete: "name", required: true, value: isKnown ? me.name : myName() });
    const reason = el("input", { id: "act-reason", name: "reason", autocomplete: "off" });
    const go = el("button", { id: "act-go", class: danger ? "danger" : "primary", value: "go", disabled: true }, button);
    const dialog = el("dialog", { class: "act", "aria-labelledby": "act-title" },
      el("form", {
        method: "dialog",
        onsubmit: (event) => {
          event.preventDefault();
          if (!isKnown) localStorage.setItem("taskorch-name", by.value.trim());
          dialog.remove();
          resolve({ by: by.value.trim(), reason: reason.value.trim(), parameters: parametersOf(dialog) });
        },
      }, el("h2", { id: "act-title" }, title), touched,
      el("div", { class: "row" }, isKnown ? null : field("Your name", by), wantsReason ? field("Why", reason) : null),
      el("div", { class: "row end" },
        el("button", { type: "button", id: "act-not", onclick: () => dialog.close() }, "Not now"), go)));
    dialog.addEventListener("close", () => { dialog.remove(); resolve(null); });
    document.body.append(dialog);
    dialog.showModal();
    if (!isKnown) by.focus();
    const asked = new URLSearchParams({ operation, subject, ...query });
    ask(`/api/v1/previews?${asked}`).then((said) => {
      touched.replaceChildren(el("p", { id: "act-text" }, said.text), said.tasks.length
        ? el("ul", { class: "ids" }, said.tasks.map((id) => el("li", {}, name(id))),
          said.count > said.tasks.length ? el("li", {}, `and ${count(said.count - said.tasks.length)} more`) : null) : "");
      if (said.parameters.length) touched.append(el("div", { class: "row" }, said.parameters.map(parameterField)));
      go.disabled = said.count === 0 && !said.does_something;
    }, (error) => {
      touched.replaceChildren(el("p", { role: "alert" }, `${error.message} ${error.hint || ""}`));
    });
  });
}

// A list is shown and read as JSON; all else is a text, which the server converts, or refuses.
const parameterField = (each) => {
  const { value } = each;
  const text = value === null || value === undefined ? "" : Array.isArray(value) ? JSON.stringify(value) : String(value);
  return field(`${each.name} (${each.is})`, el("input", { id: `parameter-${each.name}`, class: "parameter", name: each.name, required: each.needed, autocomplete: "off", value: text, "data-shown": text }));
};
// Those that a person has changed: all others keep what the server would give them.
function parametersOf(dialog) {
  const changed = [...dialog.querySelectorAll(".parameter")].filter((input) => input.value !== input.dataset.shown);
  return Object.fromEntries(changed.map(({ name: key, value }) => {
    try {
      return [key, value.startsWith("[") ? JSON.parse(value) : value];
    } catch {
      return [key, value];
    }
  }));
}

// A button that asks the server to do something, and then shows what has become of it; null if
// *needs*, what it asks for, is not for who is logged in.
export function act(words, verb, send, after, { needs = "", ...more } = {}) {
  if (needs && !may(needs)) return null;
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
        if (said !== null) {
          say(said?.changed === false ? "There was nothing to change." : "");
          await after(said);
        }
      } catch (failed) {
        say(`${failed.message} ${failed.hint || ""}`);
      }
      button.disabled = false;
    },
  }, words);
}

// The same, of what cannot be undone: it asks first.
export function actAfterAsking(words, verb, { operation, subject, body = {}, query = {}, title, danger = false, wantsReason = false }, after, more = {}) {
  return act(words, verb, async () => {
    const said = await askFirst({ title: title || `${words}: ${clip(subject, 120)}`, operation, subject, query, button: words, danger, wantsReason });
    if (said === null) return null;
    const why = wantsReason ? { reason: [`by ${said.by}`, said.reason].filter(Boolean).join(": ") } : {};
    const parameters = Object.keys(said.parameters).length ? { parameters: said.parameters } : {};
    return perform(operation, subject, { ...body, ...why, ...parameters });
  }, after, { ...more, needs: operation, class: danger ? "danger" : null });
}
