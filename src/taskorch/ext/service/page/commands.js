// What the keyboard can do: a palette of commands, a list of keys, and the keys themselves.
import { ask, el, find, go, isLocked, isThere, maySeek } from "/page/page.js";
import { clip } from "/page/parts.js";
import { TITLES } from "/page/views.js";

const JUMPS = { o: "", r: "runs", t: "tasks", s: "schedules", q: "questions", l: "timeline", w: "agents", m: "metrics", e: "events" };
const HELP = [["Ctrl K", "commands: pages, runs, schedules, tasks, and what this page can do"], ["/", "to the field that finds a task"],
  ["g, then a letter", Object.entries(JUMPS).map(([key, view]) => `${key} ${TITLES[view]}`).join(", ")],
  ["arrows", "in the grid of nights, from run to run"], ["Esc", "close what is open, and do nothing"], ["?", "these keys"]];
const MOST = 12;

function opened(dialog) {
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

export function openHelp() {
  opened(el("dialog", { "aria-labelledby": "help-title", id: "help" }, el("h2", { id: "help-title" }, "Keys"),
    el("dl", {}, HELP.map(([keys, words]) => [el("dt", {}, keys.split(" ").map((key, i) => [i ? " " : "", /^[A-Z/?]/.test(key) && key.length < 6 ? el("kbd", {}, key) : key])), el("dd", {}, words)])),
    el("form", { method: "dialog", class: "row end" }, el("button", {}, "Close"))));
}

// What stands on the page: its buttons, as commands of their own.
const acts = () => [...document.querySelectorAll("main button[id^='do-']:not(:disabled)")].slice(0, 20)
  .map((button) => ({ kind: "act", text: button.getAttribute("aria-label") || button.textContent, run: () => button.click() }));

const pages = () => Object.entries(TITLES).filter(([view]) => isThere(view))
  .map(([view, title]) => ({ kind: "page", text: title, run: () => go(view) }));

async function named(text) {
  const pattern = text.includes("*") ? text : `*${text}*`;
  const { runs } = await ask(`/api/v1/runs?${new URLSearchParams({ id: pattern, limit: "6" })}`);
  const schedules = [...new Set(runs.map((each) => each.schedule).filter((each) => each.includes(text)))];
  return [...schedules.map((each) => ({ kind: "schedule", text: each, run: () => go("schedules", each) })),
    ...runs.map((each) => ({ kind: `run, ${each.state}`, text: each.id, run: () => go("runs", each.id) }))];
}

export function openPalette() {
  const field = el("input", { type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": "commands", "aria-label": "Command",
    autocomplete: "off", placeholder: "a page, a run, a schedule, a task, or an act" });
  const list = el("ul", { id: "commands", role: "listbox", "aria-label": "Commands" });
  const dialog = opened(el("dialog", { class: "palette", "aria-label": "Commands", id: "palette" }, field, list));
  const [places, doings] = [[...pages(), { kind: "help", text: "Keys", run: openHelp }], acts()];
  let shown = [];
  let chosen = 0;
  let asked = 0;
  const choose = (command) => { dialog.close(); command?.run(); };
  const draw = () => {
    chosen = Math.max(0, Math.min(chosen, shown.length - 1));
    list.replaceChildren(...shown.map((each, i) => el("li", { role: "option", id: `command-${i}`, "aria-selected": String(i === chosen), onclick: () => choose(each) },
      el("span", { class: "kind" }, each.kind), el("span", { dir: "auto", class: "name" }, clip(each.text, 120)))));
    field.setAttribute("aria-activedescendant", shown.length ? `command-${chosen}` : "");
    list.children[chosen]?.scrollIntoView({ block: "nearest" });
  };
  const look = async () => {
    const text = field.value.trim();
    const mine = ++asked;
    // Where one can go stands before what one can do.
    const [fits, can] = [places, doings].map((some) => some.filter((each) => each.text.toLowerCase().includes(text.toLowerCase())));
    const task = text ? [{ kind: "find task", text, run: () => find(text) }] : [];
    shown = [...fits, ...can, ...task].slice(0, MOST);
    draw();
    if (!text || !maySeek(text)) return;
    const found = await named(text).catch(() => []);
    if (mine !== asked) return;
    shown = [...fits, ...found, ...can, ...task].slice(0, MOST);
    draw();
  };
  field.addEventListener("input", () => { chosen = 0; look(); });
  field.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      chosen += step;
      draw();
    } else if (event.key === "Enter") {
      event.preventDefault();
      choose(shown[chosen]);
    }
  });
  look();
}

// Keys that mean something unless somebody writes, or is asked something.
export function listen() {
  let jump = false;
  document.getElementById("open-palette").addEventListener("click", () => openPalette());
  document.getElementById("open-help").addEventListener("click", openHelp);
  addEventListener("keydown", (event) => {
    const isOpen = document.querySelector("dialog[open]");
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      if (!isOpen && !isLocked()) openPalette();
      return;
    }
    if (isOpen || event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea")) return;
    if (jump) {
      jump = false;
      if (Object.hasOwn(JUMPS, event.key)) go(JUMPS[event.key]);
    } else if (event.key === "g") jump = true;
    else if (event.key === "?") openHelp();
    else if (event.key === "/") {
      event.preventDefault();
      document.getElementById("wanted").focus();
    }
  });
}
