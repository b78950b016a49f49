// What all pages share: the token, requests, the parts of the page, and which is shown.
import { listen } from "/page/commands.js";
import { LIVE, NEEDS, TITLES, VIEWS } from "/page/views.js";

const main = document.getElementById("main");
const notice = document.getElementById("notice");
let shown = null; // { route, stop, update }
let last = null; // the latest answer of /api/v1/board
let epoch = 0; // raised by each change of page: what was asked before is not shown

// Who is logged in, as the service says; null until that is known.
export let me = null;
export const may = (operation) => !me || me.may.includes(operation);

// A code stands in the address when the page is first opened. It works once, for a
// cookie that no script can read: a browser keeps addresses, and what a page stores.
let code = "";
function takeCode() {
  const found = /^#(code|token)=(.+)$/.exec(location.hash);
  if (!found) return;
  history.replaceState(null, "", "#/");
  if (found[1] === "code") code = decoded(found[2]);
}

async function useCode() {
  const used = code;
  code = "";
  if (!used) return false;
  try {
    await ask("/api/v1/page/key", { method: "POST", body: { code: used } });
    return true;
  } catch (error) {
    if (error instanceof Refused) say(`${error.message}. ${error.hint}.`);
    return false;
  }
}

// Nothing can be typed but the token until somebody is let in: what is sought stands in
// addresses, which histories and logs keep.
const lock = (is) => document.body.classList.toggle("locked", is);
export const isLocked = () => document.body.classList.contains("locked");
// Whether what somebody has typed may stand there: it may be a token, in the wrong field.
export function maySeek(...texts) {
  const is = !isLocked() && !texts.some((text) => /^tko_|^[\w-]{40,}$/.test(text.trim()));
  if (!is) say("This looks like a token, and was not sent. To seek an id that looks so, write a * behind it.");
  return is;
}

async function learnWho() {
  let is = false;
  try {
    me = await ask("/api/v1/me");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    me = null;
    is = error.status === 401;
  }
  lock(is);
  drawn = "";
  document.getElementById("who").textContent = me?.name ? `${me.name} (${me.roles.join(", ")})` : "";
  document.getElementById("log-out").hidden = !me || me.open;
}

async function logOut() {
  await ask("/api/v1/logout", { method: "POST" }).catch(() => null);
  location.reload();
}

export class Refused extends Error {
  constructor(status, said) {
    super(said.detail || said.title || `the server answered ${status}`);
    this.status = status;
    this.code = said.code || "";
    this.hint = said.hint || "";
  }
}

export async function ask(path, { method = "GET", body = undefined, signal, token = "" } = {}) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  // Who acts: the log of the service says so.
  const by = localStorage.getItem("taskorch-name");
  if (by && method === "POST" && !me?.name) headers["X-Taskorch-By"] = encodeURIComponent(by);
  const answer = await fetch(path, {
    method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
  });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, said);
  return said;
}

// An element with attributes and children; texts are only ever texts.
export function el(name, given = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked" || key === "disabled") made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false)
      made.append(child instanceof Node ? child : String(child));
  }
  return made;
}

export function say(text) {
  notice.textContent = text;
  notice.hidden = !text;
}

export function href(view, id = "", query = {}) {
  const found = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  const asked = found.toString();
  return `#/${view}${id ? `/${encodeURIComponent(id)}` : ""}${asked ? `?${asked}` : ""}`;
}

export function go(view, id, query) {
  location.hash = href(view, id, query);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a % that somebody has typed
  }
}

function routeOf() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view = "", id = ""] = path.split("/");
  const first = Object.keys(TITLES).find((each) => may(NEEDS[each])) ?? "";
  return {
    view: view && Object.hasOwn(VIEWS, view) ? view : first,
    id: decoded(id),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

// Under which page of the menu those stand that have no line of their own.
const PARENTS = { task: "tasks", workflows: "runs" };
let drawn = "";
export const isThere = (view) => (last?.live !== false || !LIVE.includes(view)) && may(NEEDS[view]);
function showNav(view) {
  const asked = last?.questions || 0;
  const now = `${view} ${asked} ${last?.live}`;
  if (now === drawn) return;
  drawn = now;
  const nav = document.getElementById("nav");
  const focused = nav.contains(document.activeElement) ? document.activeElement.id : "";
  nav.replaceChildren(...Object.entries(TITLES)
    .filter(([name]) => isThere(name))
    .map(([name, title]) => el("a", {
      id: `to-${name}`, href: href(name), "aria-current": name === PARENTS[view] || name === view ? "page" : null,
    }, name === "questions" && asked ? `${title} (${asked})` : title)));
  if (focused) document.getElementById(focused)?.focus();
}

// What changes with everything that happens.
export const news = () => last ? `${last.board} ${last.heard}` : "";

function askToken() {
  lock(true);
  const field = el("input", { id: "token", type: "password", autocomplete: "off", required: true });
  const form = el("form", {
    class: "row",
    onsubmit: async (event) => {
      event.preventDefault();
      try {
        await ask("/api/v1/login", { method: "POST", token: field.value.trim() });
      } catch (error) {
        say(error.message);
        return;
      }
      say("");
      await learnWho();
      dispatchEvent(new Event("token"));
      show();
    },
  }, el("label", { class: "field", for: "token" }, "Your token", field),
  el("button", {}, "Open"));
  main.replaceChildren(el("h1", {}, "A token is needed"), el("div", { class: "card" }, form));
  field.focus();
}

async function show() {
  const mine = ++epoch;
  searches += 1;
  const route = routeOf();
  shown?.stop?.();
  shown = null;
  showNav(route.view);
  document.title = `${route.id || TITLES[route.view]} – taskorch`;
  try {
    const view = await VIEWS[route.view](route, last);
    if (mine !== epoch) {
      view.stop?.();
      return;
    }
    shown = view;
    main.replaceChildren(...view.parts);
    if (last) view.update?.(last);
  } catch (error) {
    if (mine === epoch) fail(error);
  }
  if (mine === epoch) main.dataset.shown = location.hash;
}

// A suite that is served, and of which no run has begun.
function offerRun() {
  const button = el("button", {
    id: "do-run",
    hidden: !may("execute_suite"),
    onclick: async () => {
      button.disabled = true;
      try {
        await ask("/api/v1/execute-suite", { method: "POST", body: {} });
        say("The run begins.");
      } catch (error) {
        say(`${error.message} ${error.hint}`);
        button.disabled = false;
      }
    },
  }, "Run the suite");
  main.replaceChildren(el("h1", {}, "No run of the suite has begun yet"), button);
}

export function fail(error) {
  if (error instanceof Refused && error.status === 401) return askToken();
  if (error instanceof Refused && error.code === "no_run") return offerRun();
  main.replaceChildren(el("h1", {}, "That did not work"),
    el("p", { role: "alert" }, error.message), el("p", {}, error.hint || ""));
}

// The page is filled anew on news, ten times a second at the most; a lost answer, a server
// that was started anew or a tab that slept only means that the next answer is the whole.
async function follow() {
  let away = 0;
  let awake = Date.now();
  let slept = 0;
  let hadRun = false;
  const look = () => {
    const minutes = Math.round((Date.now() - awake) / 60000);
    if (minutes >= 2) slept = minutes;
    awake = Date.now();
  };
  for (;;) {
    look();
    const began = performance.now();
    try {
      const query = last ? `?board=${last.board}&after=${last.heard}&wait=20` : "";
      const said = await ask(`/api/v1/board${query}`);
      look();
      const isOther = last ? said.board !== last.board : hadRun;
      hadRun = false;
      const isBack = away && !shown;
      if (isOther) say("The server was started anew, or a new run has begun: all is loaded again.");
      else if (slept) say(`This page was asleep for ${slept} minutes: all is loaded again.`);
      else if (away) say("");
      away = 0;
      last = said;
      const state = document.getElementById("health");
      const is = !said.live ? "recorded" : said.health.live ? said.health.status : "ended";
      state.textContent = is;
      state.className = `state ${is}`;
      state.title = said.live ? "the health of the orchestrator" : "read from a journal: nothing can be changed here";
      if (isOther || isBack || slept) show();
      else if (shown) {
        showNav(routeOf().view);
        if (!document.hidden) shown.update?.(said);
      }
      slept = 0;
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        if (await useCode()) {
          await learnWho();
          show();
          continue;
        }
        askToken();
        await new Promise((go) => addEventListener("token", go, { once: true }));
      }
      if (error instanceof Refused && error.code === "no_run") {
        hadRun ||= Boolean(last);
        last = null;
        if (shown || !document.getElementById("do-run")) {
          shown?.stop?.();
          shown = null;
          offerRun();
        }
        away = 1;
        await pause(1000);
        continue;
      }
      away += 1;
      if (away > 1) say(`The server does not answer (${error.message}). What is shown may be old; it is asked again.`);
      await pause(Math.min(5000, 500 * away));
    }
    await pause(Math.max(0, 100 - (performance.now() - began)));
  }
}

// The task of this id, or those whose ids have it in them.
let searches = 0;
export async function find(text) {
  if (!text || !maySeek(text)) return;
  const mine = ++searches;
  if (!text.includes("*")) {
    try {
      await ask(`/api/v1/tasks/${encodeURIComponent(text)}`);
      // An answer that comes after another search, or on another page, leads nowhere.
      return mine === searches && go("task", text);
    } catch (error) {
      if (mine !== searches) return;
      if (!(error instanceof Refused) || ![404, 410].includes(error.status)) return fail(error);
    }
  }
  go("tasks", "", { id: text.includes("*") ? text : `*${text}*` });
}

const pause = (ms) => new Promise((go) => setTimeout(go, ms));

takeCode();
await learnWho();
if (!me && await useCode()) await learnWho();
code = "";
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which page is shown
  main.focus();
});
addEventListener("hashchange", () => {
  takeCode();
  if (code && !me) useCode().then(learnWho).then(() => { dispatchEvent(new Event("token")); show(); });
  code = "";
  show();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && last) shown?.update?.(last);
});
document.getElementById("log-out").addEventListener("click", logOut);
document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  find(new FormData(event.target).get("wanted").trim());
});
listen();
show();
follow();
