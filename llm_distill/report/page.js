// The browser of samples: one stage at a time, a filter, a search as you type. Without it the page
// shows all of them, one after the other.
"use strict";
(() => {
  const PAGE = 20;
  const find = (id) => document.getElementById(id);
  const samples = [...document.querySelectorAll(".sample")];
  if (samples.length === 0) return;
  const [stage, filter, search, found, more] =
    ["stage", "filter", "search", "found", "more"].map(find);
  document.documentElement.classList.add("js");
  let limit = PAGE;

  const texts = new Map(); // the searched texts: read once per stage, when it is first shown
  function cards(sample) {
    if (!texts.has(sample)) {
      const articles = [...sample.querySelectorAll("article")];
      texts.set(sample, articles.map((card) => [card, card.textContent.toLowerCase()]));
    }
    return texts.get(sample);
  }

  function offerFilters(sample) {
    const given = Object.values(sample.dataset).filter((value) => value.includes("|"));
    const options = given.map((value) => {
      const at = value.indexOf("|");
      return new Option(value.slice(at + 1), value.slice(0, at));
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
      const marked = !filter.value || card.dataset.marks.split(" ").includes(filter.value);
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
  stage.addEventListener("change", () => {
    offerFilters(samples[Number(stage.value)]);
    changed();
  });
  filter.addEventListener("change", changed);
  search.addEventListener("input", changed);
  more.addEventListener("click", () => {
    limit += PAGE;
    show();
  });
  offerFilters(samples[Number(stage.value)]);
  show();
})();
