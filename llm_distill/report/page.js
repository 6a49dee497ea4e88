// The browser of samples (one stage at a time, a filter, a search as you type), and the links to
// stages and rows. Without it the page shows everything, one after the other.
"use strict";
(() => {
  const PAGE = 20;
  const find = (id) => document.getElementById(id);
  const samples = [...document.querySelectorAll(".sample")];
  const [stage, filter, search, found, more] =
    ["stage", "filter", "search", "found", "more"].map(find);
  document.documentElement.classList.add("js");
  let limit = PAGE;

  const texts = new Map(); // the searched texts: read once per stage, when it is first shown
  function cards(sample) {
    if (!texts.has(sample)) {
      const articles = [...sample.querySelectorAll("article")];
      texts.set(sample, articles.map((card) => [card, card.textContent.toLowerCase()]));
      articles.forEach(followBack);
    }
    return texts.get(sample);
  }

  // What a row's sources were made from in turn, back to the seed, behind its own link.
  function followBack(card) {
    const from = card.querySelector(".from");
    const passed = new Set([card]);
    let link = from?.querySelector("a");
    while (link) {
      const source = find(link.hash.slice(1));
      if (!source || passed.has(source)) return;
      passed.add(source);
      link = source.querySelector(".from a");
      if (!link || passed.has(find(link.hash.slice(1)))) return;
      from.append(" ← ", link.cloneNode(true));
    }
  }

  const marks = (card) => (card.dataset.marks ?? "").split(" ");

  function offerFilters(sample) {
    const given = Object.values(sample.dataset).filter((value) => value.includes("|"));
    const options = given.map((value) => {
      const at = value.indexOf("|");
      const mark = value.slice(0, at);
      const n = cards(sample).filter(([card]) => marks(card).includes(mark)).length;
      return new Option(`${value.slice(at + 1)} (${n})`, mark);
    });
    filter.replaceChildren(new Option("all", ""), ...options);
    filter.hidden = options.length === 0;
  }

  function show() {
    const sample = samples[Number(stage.value)];
    for (const other of samples) other.hidden = other !== sample;
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let matches = 0;
    for (const [card, text] of cards(sample)) {
      const marked = !filter.value || marks(card).includes(filter.value);
      const matching = marked && words.every((word) => text.includes(word));
      card.hidden = !matching || matches >= limit;
      matches += matching ? 1 : 0;
    }
    const total = Number(sample.dataset.total).toLocaleString("en");
    const held = cards(sample).length;
    const of = held < sample.dataset.total ? `${held} sampled of ${total}` : total;
    found.textContent = `${matches} of ${of}`;
    more.hidden = matches <= limit;
  }

  function changed() {
    limit = PAGE;
    show();
  }

  function choose(sample) {
    stage.value = String(samples.indexOf(sample));
    offerFilters(sample);
    changed();
  }

  // A link leads to a section, a stage (which is closed and hidden), its rows, or a row.
  function go() {
    const target = find(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.matches("details.stage")) {
      for (const other of document.querySelectorAll("details.stage")) other.open = other === target;
      target.querySelector("summary").focus({ preventScroll: true });
    }
    const sample = target.closest(".sample");
    if (sample) {
      if (sample.hidden || target.hidden) {
        search.value = "";
        choose(sample);
      }
      const place = cards(sample).findIndex(([card]) => card === target);
      if (place >= limit) {
        limit = place + 1;
        show();
      }
      (target === sample ? stage : target).focus({ preventScroll: true });
    }
    target.scrollIntoView();
  }

  // What scrolls sideways can be reached by keyboard, and says what it is.
  function reachable(box) {
    const scrolls = box.scrollWidth > box.clientWidth;
    const label = `${box.firstElementChild.getAttribute("aria-label")}, scrolls sideways`;
    for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", label]])
      scrolls ? box.setAttribute(name, value) : box.removeAttribute(name);
  }
  const sizes = new ResizeObserver((seen) => seen.forEach((each) => reachable(each.target)));
  document.querySelectorAll(".wide").forEach((box) => sizes.observe(box));

  if (samples.length > 0) {
    stage.addEventListener("change", () => choose(samples[Number(stage.value)]));
    filter.addEventListener("change", changed);
    search.addEventListener("input", changed);
    more.addEventListener("click", () => {
      const first = cards(samples[Number(stage.value)]).filter(([card]) => !card.hidden).length;
      limit += PAGE;
      show();
      const shown = cards(samples[Number(stage.value)]).filter(([card]) => !card.hidden);
      if (more.hidden) shown[first]?.[0].focus({ preventScroll: true });
    });
    choose(samples[Number(stage.value)]);
  }
  window.addEventListener("hashchange", go);
  document.addEventListener("click", (event) => {
    // The same link a second time changes no hash.
    const link = event.target.closest?.('a[href^="#"]');
    if (link && link.hash === location.hash) go();
  });
  go();
})();
