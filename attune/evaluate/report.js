"use strict";
(function () {
  function make(tag, kind, text) {
    const node = document.createElement(tag);
    if (kind) node.className = kind;
    if (text !== undefined) node.textContent = text; // text only: data never becomes markup
    return node;
  }

  // Tables whose heads hold buttons can be sorted; numbers go largest first.
  document.querySelectorAll("table.sortable th button").forEach(function (button) {
    button.addEventListener("click", function () {
      const head = button.parentElement, body = head.closest("table").tBodies[0];
      const column = head.cellIndex, words = head.classList.contains("text");
      const now = head.getAttribute("aria-sort");
      const down = now ? now === "ascending" : !words;
      head.parentElement.querySelectorAll("th").forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = Array.from(body.rows);
      rows.sort(function (a, b) {
        const x = a.cells[column].textContent.trim(), y = b.cells[column].textContent.trim();
        const order = words ? x.localeCompare(y) : parseFloat(x.replace(/,/g, "")) - parseFloat(y.replace(/,/g, ""));
        return down ? -order : order;
      });
      rows.forEach(function (row) { body.appendChild(row); });
    });
  });

  const source = document.getElementById("samples-data");
  if (!source) return;
  const samples = JSON.parse(source.textContent), PAGE = 20;
  const list = document.getElementById("sample-list"), count = document.getElementById("sample-count");
  const search = document.getElementById("sample-search");
  const back = document.getElementById("sample-back"), on = document.getElementById("sample-on");
  const tests = {
    all: function () { return true; },
    wrong: function (s) { return s.correct === false; },
    changed: function (s) { return s.changed; },
    improved: function (s) { return s.correct === true && s.base_correct === false; },
    regressed: function (s) { return s.correct === false && s.base_correct === true; }
  };
  let filter = "all", page = 0;
  samples.forEach(function (s) {
    s.haystack = [s.id, s.where, s.prompt, s.reference, s.base, s.tuned].join("\n").toLowerCase();
  });

  function part(name, text, verdict) {
    const box = make("div"), head = make("h4", "", name);
    if (verdict === true) head.append(" ", make("span", "right", "right"));
    if (verdict === false) head.append(" ", make("span", "wrong", "wrong"));
    const missing = text === null || text === undefined;
    box.append(head, make("div", missing ? "box soft" : "box", missing ? "no answer" : text === "" ? "(empty)" : text));
    return box;
  }

  function card(s) {
    const node = make("article", "sample"), top = make("div", "top"), said = make("div", "said");
    top.append(make("span", "mono", s.where || s.id));
    if (s.changed) top.append(make("span", "", "answer changed"));
    if (tests.improved(s)) top.append(make("span", "right", "improved"));
    if (tests.regressed(s)) top.append(make("span", "wrong", "regressed"));
    said.append(part("Reference", s.reference), part("Base", s.base, s.base_correct), part("Tuned", s.tuned, s.correct));
    node.append(top, part("Prompt", s.prompt), said);
    return node;
  }

  function show() {
    const needle = search.value.trim().toLowerCase();
    const found = samples.filter(function (s) { return tests[filter](s) && (!needle || s.haystack.includes(needle)); });
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(page, pages - 1);
    list.replaceChildren.apply(list, found.slice(page * PAGE, (page + 1) * PAGE).map(card));
    if (!found.length) list.append(make("p", "soft", "No sample matches."));
    count.textContent = found.length + " of " + samples.length + " samples, page " + (page + 1) + " of " + pages;
    back.disabled = page === 0;
    on.disabled = page >= pages - 1;
  }

  document.querySelectorAll("[data-filter]").forEach(function (button) {
    const size = samples.filter(tests[button.dataset.filter]).length;
    button.append(" " + size);
    button.addEventListener("click", function () {
      filter = button.dataset.filter;
      page = 0;
      document.querySelectorAll("[data-filter]").forEach(function (other) {
        other.setAttribute("aria-pressed", String(other === button));
      });
      show();
    });
  });
  search.addEventListener("input", function () { page = 0; show(); });
  back.addEventListener("click", function () { page -= 1; show(); });
  on.addEventListener("click", function () { page += 1; show(); });
  show();
})();
