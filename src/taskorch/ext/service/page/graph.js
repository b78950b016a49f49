// The graph of a run: what comes after what, from left to right. A map is one box, with its calls in numbers.
import { el, href } from "/page/page.js";
import { clip, count } from "/page/parts.js";

const [WIDTH, HEIGHT, GAP, ROW, MARGIN] = [176, 40, 44, 54, 12];
const MOST = 300;
const GLYPHS = { completed: "✓", failed: "✕", running: "▸", blocked: "?", retrying: "↺", suspended: "‖", cancelled: "–", pending: "⋯", queued: "⋯" };

function svg(kind, given = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [key, value] of Object.entries(given)) if (value !== null) made.setAttribute(key, value);
  made.append(...children.filter((each) => each !== null));
  return made;
}

// The columns of tasks: each is right of all that it comes after, and near what it comes after.
export function layers(tasks) {
  const byName = new Map(tasks.map((each) => [each.name, each]));
  const depth = new Map();
  const above = (each) => each.after.filter((parent) => byName.has(parent));
  for (let rounds = 0, changed = true; changed && rounds <= tasks.length; rounds += 1) {
    changed = false;
    for (const each of tasks) {
      const next = Math.max(0, ...above(each).map((parent) => (depth.get(parent) ?? 0) + 1));
      if (depth.get(each.name) !== next) changed = true;
      depth.set(each.name, next);
    }
  }
  const columns = [];
  for (const each of tasks) (columns[depth.get(each.name)] ??= []).push(each);
  const place = new Map();
  for (const column of columns) {
    const centre = (each) => {
      const places = above(each).map((parent) => place.get(parent));
      return places.length ? places.reduce((sum, at) => sum + at, 0) / places.length : column.indexOf(each);
    };
    const sorted = column.map((each) => [centre(each), each]).sort((a, b) => a[0] - b[0]);
    sorted.forEach(([, each], i) => { column[i] = each; place.set(each.name, i); });
  }
  return columns;
}

const callsOf = (map) => Object.entries(map.states).map(([state, many]) => `${count(many)} ${state}`).join(", ");

export function graphOf(tasks, maps, leftOut) {
  if (tasks.length > MOST) return el("p", { class: "quiet" }, `The graph has ${count(tasks.length + leftOut)} tasks: more than can be read. The table has them.`);
  const columns = layers(tasks);
  const tallest = Math.max(...columns.map((column) => column.length));
  const at = new Map();
  columns.forEach((column, x) => column.forEach((each, y) => at.set(each.name,
    [MARGIN + x * (WIDTH + GAP), MARGIN + (y + (tallest - column.length) / 2) * ROW])));
  const edges = tasks.flatMap((each) => each.after.filter((parent) => at.has(parent)).map((parent) => {
    const [[x, y], [toX, toY]] = [at.get(parent), at.get(each.name)];
    const [fromX, fromY, endY] = [x + WIDTH, y + HEIGHT / 2, toY + HEIGHT / 2];
    const bend = Math.max(20, (toX - fromX) / 2);
    return svg("path", { class: "edge", d: `M${fromX} ${fromY} C${fromX + bend} ${fromY} ${toX - bend} ${endY} ${toX} ${endY}` });
  }));
  const boxes = tasks.map((each) => {
    const [x, y] = at.get(each.name);
    const map = maps[each.name];
    const words = [`${each.name}: ${each.state}`, map ? `${count(Object.values(map.states).reduce((a, b) => a + b, 0))} calls: ${callsOf(map)}` : ""].filter(Boolean).join("; ");
    const more = map ? callsOf(map) : each.type;
    return svg("a", { href: href("task", each.id), "aria-label": words }, svg("title", {}, words),
      svg("rect", { class: "box", x, y, width: WIDTH, height: HEIGHT, rx: 7 }),
      map ? svg("rect", { class: "box", x: x + 4, y: y + HEIGHT, width: WIDTH - 8, height: 4, rx: 2 }) : null,
      svg("rect", { class: `stripe ${each.state}`, x: x + 1, y: y + 1, width: 20, height: HEIGHT - 2, rx: 6 }),
      svg("text", { class: "glyph", x: x + 11, y: y + HEIGHT / 2 + 4 }, GLYPHS[each.state] || "·"),
      svg("text", { x: x + 28, y: y + 17 }, clip(each.name, 22)), svg("text", { class: "small", x: x + 28, y: y + 32 }, clip(more, 26)));
  });
  const [width, height] = [2 * MARGIN + columns.length * (WIDTH + GAP) - GAP, 2 * MARGIN + tallest * ROW];
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "The tasks and what they come after; the table says their states" }, ...edges, ...boxes);
  // It shrinks to the page as long as it can be read; then it is moved.
  picture.style.width = `${width}px`;
  picture.style.maxWidth = `max(100%, ${Math.round(0.72 * width)}px)`;
  return el("div", { class: "graph", tabindex: "0", role: "region", "aria-label": "Graph of the run" }, picture);
}
