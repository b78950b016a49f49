// How the pages that a search finds are ranked: pages to which the glossary leads from the words that are asked for
// come first, then titles, how-tos and tutorials, and the reference last. WORDS has the words by page: see conf.py.
const asked = (new URLSearchParams(window.location.search).get("q") ?? "").toLowerCase().split(/[^\w-]+/).filter((word) => word.length > 2);
const isMeant = (page) => asked.length > 0 && page in WORDS && asked.every((word) => WORDS[page].some((other) => other.toLowerCase() === word));

var Scorer = {
  score: ([page, , , , score, , kind]) => {
    if (kind === "object") return score;
    if (page === "index" || page === "glossary") return score - 20;
    const group = page.startsWith("reference/api/") ? -6 : page.startsWith("howto/") ? 12 : 0;
    return score + group + (isMeant(page) ? 25 : 0);
  },
  objNameMatch: 8,
  objPartialMatch: 2,
  objPrio: { 0: 4, 1: 2, 2: -5 },
  objPrioDefault: 0,
  title: 25,
  partialTitle: 9,
  term: 5,
  partialTerm: 2,
};
