// Searches the built site as its page does: the folder of the site is the argument, and standard input has the
// queries as a JSON list; standard output has the pages that each finds, the best first.
const { readFileSync } = require("fs");
const { createContext, runInContext } = require("vm");

const folder = process.argv[2];
const read = (name) => readFileSync(`${folder}/${name}`, "utf8");
const scripts = ["_static/language_data.js", "_static/searchtools.js"].map(read);
const index = read("searchindex.js");

function find(query) {
  const nothing = () => null;
  const page = { addEventListener: nothing, querySelector: nothing, getElementById: nothing, querySelectorAll: () => [], documentElement: { dataset: {} }, readyState: "loading" };
  const place = { document: page, addEventListener: nothing, location: { search: `?${new URLSearchParams({ q: query })}` }, localStorage: { setItem: nothing }, _ready: nothing, _: (text) => text,
    DOCUMENTATION_OPTIONS: {}, SPHINX_HIGHLIGHT_ENABLED: false, URL, URLSearchParams, query };
  place.window = place;
  createContext(place);
  for (const script of scripts) runInContext(script, place);
  runInContext("Search.setIndex = (found) => { Search._index = found; }", place);
  runInContext(index, place);
  const results = runInContext("Search._performSearch(...Search._parseQuery(query))", place);
  return [...new Set(results.reverse().map(([name]) => name))];
}

console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(find)));
