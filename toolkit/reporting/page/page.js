"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const one = (selector, from = document) => from.querySelector(selector);
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // Names from data keep their writing direction to themselves.
  const named = (text) => make("bdi", { textContent: text });

  // Theme: remembered where the browser lets a page from disk remember anything.
  const theme = one("#theme");
  const remembered = (() => {
    try { return localStorage.getItem("report-theme"); } catch { return null; }
  })();
  const setTheme = (name) => {
    root.dataset.theme = name;
    theme.value = name;
    try { localStorage.setItem("report-theme", name); } catch { /* only for this visit then */ }
  };
  setTheme(["light", "dark"].includes(remembered) ? remembered : "auto");
  theme.addEventListener("change", () => setTheme(theme.value));

  // Which section is being read.
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const seen = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) seen.add(entry.target.id); else seen.delete(entry.target.id);
    }
    const current = [...links.keys()].find((id) => seen.has(id));
    for (const [id, link] of links) {
      if (id === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-15% 0px -60% 0px" });
  all("main > section").forEach((section) => watcher.observe(section));

  // Tables that sort.
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    if (text === "") return null;
    const number = Number(text);
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  const nextOrder = (heading, first) => {
    const now = heading.getAttribute("aria-sort");
    const order = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
    all("th[aria-sort]", heading.parentElement).forEach((each) => each.setAttribute("aria-sort", "none"));
    heading.setAttribute("aria-sort", order);
    return order === "ascending" ? 1 : -1;
  };
  for (const heading of all("table:not(#photos-table) th[aria-sort]")) {
    one("button", heading).addEventListener("click", () => {
      const body = heading.closest("table").tBodies[0];
      const column = heading.cellIndex;
      const rows = [...body.rows];
      const numbers = rows.some((row) => typeof value(row, column) === "number");
      const sign = nextOrder(heading, numbers ? "descending" : "ascending");
      rows.sort((a, b) => {
        const left = value(a, column), right = value(b, column);
        if (left === null || right === null) return compare(left, right);
        return sign * compare(left, right);
      });
      body.append(...rows);
    });
  }

  // Only what scrolls is a stop on the way by keyboard.
  const stops = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  all(".scroll").forEach((region) => stops.observe(region));

  for (const button of all("button[data-copy]")) {
    button.addEventListener("click", async () => {
      const text = one("pre", button.closest("li")).textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(one("pre", button.closest("li")));
        button.textContent = "Selected";
      }
    });
  }

  // Print everything.
  addEventListener("beforeprint", () => all("details").forEach((each) => { each.open = true; }));

  const source = one("#held-out");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const count = data.ids.length;

  // The photo in large, with what every member says.
  const dialog = one("#photo");
  const body = one(".voters", dialog);
  let row = [], place = 0, opener = null;
  const photos = new Map();
  for (const card of all("button[data-photo]")) {
    const image = one("img", card);
    if (image) photos.set(Number(card.dataset.photo), image.src);
  }
  const bars = (voter, index) => {
    const list = make("ul");
    const likely = data.likely[voter][index];
    for (let at = 0; at < likely.length; at += 2) {
      const name = data.classes[likely[at]], share = likely[at + 1] / 10;
      const fill = make("i");
      fill.style.width = share + "%";
      const item = make("li", { className: likely[at] === data.truth[index] ? "true" : "" },
        make("span", { title: name }, named(name)),
        make("span", { className: "bar" }, fill),
        make("span", { textContent: share.toFixed(1) + " %" }));
      list.append(item);
    }
    return make("section", {}, make("h4", {}, named(data.voters[voter])), list);
  };
  const show = () => {
    const index = row[place];
    const right = data.truth[index] === data.answer[index];
    one("h3", dialog).replaceChildren(named(data.ids[index]));
    const verdict = one("#photo-verdict", dialog);
    verdict.replaceChildren(
      make("span", {}, named(data.classes[data.truth[index]]), ", answered "),
      make("span", { className: right ? "is-right" : "is-wrong" },
        named(data.classes[data.answer[index]]), ` (${right ? "right" : "wrong"})`));
    one("#photo-figures", dialog).textContent =
      `loss ${data.loss[index].toFixed(2)}, division ${data.division[index].toFixed(2)}` +
      ` · ${place + 1} of ${row.length}`;
    const picture = one("#photo-picture", dialog);
    picture.replaceChildren(photos.has(index)
      ? make("img", { src: photos.get(index), alt: `Photo ${data.ids[index]}` })
      : make("p", { className: "note", textContent: "This photo is not part of the page." }));
    const members = data.voters.length - 1;
    body.replaceChildren(bars(members, index), ...data.voters.slice(0, members).map((_, voter) => bars(voter, index)));
    one("#photo-before", dialog).disabled = place === 0;
    one("#photo-after", dialog).disabled = place === row.length - 1;
  };
  const open = (indices, at, from) => {
    row = indices; place = at; opener = from;
    show();
    dialog.showModal();
  };
  const step = (by) => {
    const next = place + by;
    if (next >= 0 && next < row.length) { place = next; show(); }
  };
  one("#photo-before").addEventListener("click", () => step(-1));
  one("#photo-after").addEventListener("click", () => step(1));
  one("#photo-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => opener?.focus());

  for (const gallery of all(".gallery")) {
    gallery.addEventListener("click", (event) => {
      const card = event.target.closest("button[data-photo]");
      if (!card) return;
      const shown = all("li:not([hidden]) > button", gallery);
      open(shown.map((each) => Number(each.dataset.photo)), shown.indexOf(card), card);
    });
    const tools = gallery.parentElement.querySelector(`[data-for="${gallery.id}"]`);
    if (!tools) continue;
    const told = one("output", tools);
    const filter = () => {
      const wanted = one("select", tools).value;
      const wrong = one("input", tools)?.checked;
      let left = 0;
      for (const item of gallery.children) {
        const index = Number(one("button", item).dataset.photo);
        const fits = wanted === "" || [data.truth[index], data.answer[index]].includes(Number(wanted));
        item.hidden = !fits || (wrong && data.truth[index] === data.answer[index]);
        left += !item.hidden;
      }
      told.textContent = `${left} of ${gallery.children.length}`;
    };
    tools.addEventListener("input", filter);
    filter();
  }

  // All held-out photos, a few rows at a time.
  const table = one("#photos-table");
  const MORE = 25;
  const members = data.voters.length - 1;
  const answers = (index) => data.likely.slice(0, members).map((voter) => voter[index][0]);
  const equal = Array.from({ length: count }, (_, index) =>
    answers(index).filter((answer) => answer === data.answer[index]).length);
  const columns = [
    (i) => data.ids[i], (i) => data.classes[data.truth[i]], (i) => data.classes[data.answer[i]],
    (i) => equal[i], (i) => data.loss[i], (i) => data.division[i],
  ];
  let order = [4, -1], found = [], shown = MORE;
  const draw = () => {
    const rows = found.slice(0, shown).map((index, at) => {
      const right = data.truth[index] === data.answer[index];
      const button = make("button", { className: "link", type: "button" }, named(data.ids[index]));
      button.addEventListener("click", () => open(found, at, button));
      return make("tr", {},
        make("td", { className: "words" }, button),
        make("td", { className: "words" }, named(columns[1](index))),
        make("td", { className: "words " + (right ? "is-right" : "is-wrong") }, named(columns[2](index)), right ? " ✓" : " ✗"),
        make("td", { textContent: `${equal[index]} of ${members}` }),
        make("td", { textContent: data.loss[index].toFixed(2) }),
        make("td", { textContent: data.division[index].toFixed(2) }));
    });
    table.tBodies[0].replaceChildren(...rows);
    one("#photos-more").hidden = shown >= found.length;
    one("#photos-told").textContent = `${found.length} of ${count} photos`;
  };
  const search = () => {
    const text = one("#photos-id").value.trim().toLowerCase();
    const wanted = one("#photos-class").value, state = one("#photos-state").value;
    const [column, sign] = order;
    found = Array.from({ length: count }, (_, index) => index).filter((i) => {
      const right = data.truth[i] === data.answer[i];
      return (text === "" || data.ids[i].toLowerCase().includes(text))
        && (wanted === "" || data.truth[i] === Number(wanted) || data.answer[i] === Number(wanted))
        && (state === "" || (state === "right") === right && state !== "split"
          || state === "split" && equal[i] < members);
    });
    found.sort((a, b) => sign * compare(columns[column](a), columns[column](b)) || a - b);
    shown = MORE;
    draw();
  };
  all("th[aria-sort]", table).forEach((heading) => one("button", heading).addEventListener("click", () => {
    order = [heading.cellIndex, nextOrder(heading, heading.cellIndex > 2 ? "descending" : "ascending")];
    search();
  }));
  one("#photos-tools").addEventListener("input", search);
  one("#photos-more").addEventListener("click", () => { shown += 10 * MORE; draw(); });
  search();
})();
