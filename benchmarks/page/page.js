"use strict";
(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (selector, within = document) => within.querySelector(selector);

  /** An element with attributes (an `on...` one is a listener) and children, texts among them. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  // --- theme ---

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const themeButton = document.getElementById("theme");
  const chosenTheme = () => document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");

  function showTheme() {
    themeButton.setAttribute("aria-pressed", String(chosenTheme() === "dark"));
    all(".chart.drawn").forEach(draw);
  }

  themeButton.addEventListener("click", () => {
    document.documentElement.dataset.theme = chosenTheme() === "dark" ? "light" : "dark";
    showTheme();
  });
  dark.addEventListener("change", showTheme);

  // --- tables: sorting, opening, links to rows ---

  function sortBy(heading) {
    const table = heading.closest("table");
    const column = heading.cellIndex;
    const isNumber = heading.classList.contains("number");
    const was = heading.getAttribute("aria-sort");
    const descending = was === "none" ? isNumber : was === "ascending";
    all("th[aria-sort]", table).forEach((other) => other.setAttribute("aria-sort", "none"));
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const value = (body) => body.rows[0].cells[column].dataset.sort;
    const compare = isNumber ? (a, b) => a - b : (a, b) => a.localeCompare(b);
    const ordered = all("tbody[data-key]", table).sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === "" || b === "") return (a === "") - (b === "");
      return descending ? compare(b, a) : compare(a, b);
    });
    table.append(...ordered);
  }

  function open(body, opened) {
    one("button.opens", body).setAttribute("aria-expanded", String(opened));
    body.rows[1].hidden = !opened;
  }

  const isOpen = (body) => !body.rows[1].hidden;
  const rows = new Map(all("tbody[data-key]").map((body) => [body.dataset.key, body]));

  function follow() {
    let key;
    try {
      key = decodeURIComponent(location.hash).replace(/^#row=/, "");
    } catch {
      return;
    }
    const body = rows.get(key);
    if (!body) return;
    open(body, true);
    body.scrollIntoView({ block: "start" });
    one("button.opens", body).focus({ preventScroll: true });
  }

  function goTo(key) {
    const hash = `#row=${encodeURIComponent(key)}`;
    if (location.hash === hash) follow();
    else location.hash = hash;
  }

  all("table.ranked th[aria-sort]").forEach((heading) =>
    one("button", heading).addEventListener("click", () => sortBy(heading)),
  );
  for (const body of rows.values()) {
    one("button.opens", body).addEventListener("click", () => open(body, !isOpen(body)));
    body.rows[0].addEventListener("click", (event) => {
      if (!event.target.closest("button, a") && getSelection().isCollapsed) open(body, !isOpen(body));
    });
  }
  addEventListener("hashchange", follow);

  // --- equal budgets ---

  const rankCells = new Map(all("td.rank").map((cell) => [cell.closest("tbody"), cell]));
  const ranks = new Map([...rankCells].map(([body, cell]) => [body, [cell.textContent, cell.dataset.sort]]));

  /** A table of one row has no column for its rank. */
  function showRank(body, [words, sort], outside) {
    body.classList.toggle("outside", outside);
    const cell = rankCells.get(body);
    if (!cell) return;
    cell.textContent = words;
    cell.dataset.sort = sort ?? "";
  }

  /** Rank the rows of a table that share a budget, and grey the others; everything where none is chosen. */
  function rankTogether(table, budget) {
    for (const body of all("tbody[data-key]", table)) {
      const key = body.dataset.key;
      if (budget === null) showRank(body, ranks.get(body) ?? [], false);
      else if (key in budget.ranks) showRank(body, budget.ranks[key], false);
      else showRank(body, ["", ""], true);
    }
  }

  function choose(cost) {
    for (const article of all("article")) {
      const table = one("table.ranked", article);
      const budgets = cost === "nothing" ? [] : content.budgets[table.dataset.table][cost];
      const select = one(".budget select", article);
      one(".budget", article).hidden = cost === "nothing";
      one(".budget .none", article).hidden = budgets.length > 0;
      one(".budget label", article).hidden = budgets.length === 0;
      select.replaceChildren(...budgets.map((budget, number) => make("option", { value: number }, budget.label)));
      select.onchange = () => rankTogether(table, budgets[select.value]);
      rankTogether(table, cost === "nothing" ? null : (budgets[0] ?? { ranks: {} }));
    }
  }

  all("#equal input").forEach((input) => input.addEventListener("change", () => choose(input.value)));

  // --- charts ---

  const NARROW = 700;

  /** The layout of a figure in the colours of the page, and in the room that there is. */
  function fitted(box, figure) {
    const style = getComputedStyle(box);
    const axis = { gridcolor: style.borderTopColor, zerolinecolor: style.borderTopColor, linecolor: style.color };
    const narrow = box.clientWidth < NARROW;
    const layout = structuredClone(figure.layout);
    const [kind] = figure.data.map((trace) => trace.type);
    const named = figure.data.length;
    layout.xaxis = { ...layout.xaxis, ...axis };
    layout.yaxis = { ...layout.yaxis, ...axis };
    layout.font = { ...layout.font, color: style.color, size: narrow ? 11 : 12 };
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.hoverlabel = { bgcolor: style.backgroundColor, font: { color: style.color } };
    layout.showlegend = kind === "scatter";
    if (kind === "heatmap") {
      const names = figure.data[0].y;
      const room = narrow ? 14 : 60;
      layout.height = 140 + 24 * names.length;
      layout.yaxis.tickvals = names;
      layout.yaxis.ticktext = names.map((name) => (name.length > room ? `${name.slice(0, room - 1)}…` : name));
    } else if (kind === "parcoords") {
      layout.height = 440;
      layout.margin = { l: 70, r: 50, t: 70, b: 30 };
      layout.width = Math.max(box.clientWidth, 110 * figure.data[0].dimensions.length);
    } else if (narrow) {
      layout.legend = { orientation: "h", y: -0.2, yanchor: "top" };
      layout.margin = { ...layout.margin, l: 46, r: 6 };
      layout.height = 340 + 19 * named;
    } else {
      layout.legend = { y: 1, yanchor: "top" };
      layout.height = Math.max(440, 90 + 19 * named);
    }
    return layout;
  }

  const figures = new Map();

  function draw(box) {
    const figure = figures.get(box);
    box.classList.add("drawn");
    const options = { displaylogo: false, responsive: figure.data[0].type !== "parcoords" };
    return Plotly.newPlot(box, structuredClone(figure.data), fitted(box, figure), options).then(() => {
      box.on("plotly_click", (event) => {
        const key = event.points[0].customdata;
        if (key) goTo(key);
      });
    });
  }

  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((each) => each.isIntersecting)) {
        seen.unobserve(entry.target);
        draw(entry.target);
      }
    },
    { rootMargin: "300px" },
  );

  function numbers(chart) {
    const line = ({ key, cells }) => {
      const [name, ...rest] = cells;
      const link = make("a", { href: `#row=${encodeURIComponent(key)}` }, name);
      const heading = make("th", { scope: "row" }, rows.has(key) ? link : name);
      return make("tr", {}, heading, ...rest.map((text) => make("td", {}, text)));
    };
    return make(
      "table",
      {},
      make("caption", { class: "quiet" }, chart.title),
      make("thead", {}, make("tr", {}, ...chart.head.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...chart.lines.map(line)),
    );
  }

  function chartFigure(chart, number) {
    const box = make("div", { class: "chart scroll", role: "group", "aria-label": chart.title, tabindex: 0 });
    const id = `numbers-${number}`;
    const region = { class: "scroll", id, hidden: "", role: "region", tabindex: 0, "aria-label": `Data of: ${chart.title}` };
    const table = make("div", region);
    const button = make("button", {
      type: "button",
      "aria-expanded": "false",
      "aria-controls": id,
      onclick: () => {
        if (!table.firstChild) table.append(numbers(chart));
        table.hidden = !table.hidden;
        button.setAttribute("aria-expanded", String(!table.hidden));
      },
    });
    button.append(`Data of the chart (${chart.lines.length} lines)`);
    figures.set(box, chart.figure);
    seen.observe(box);
    const caption = make("figcaption", {}, make("h3", {}, chart.title), make("p", { class: "hint" }, chart.text));
    return make("figure", {}, caption, box, button, table);
  }

  function showCharts(group) {
    for (const box of figures.keys()) {
      seen.unobserve(box);
      if (box.classList.contains("drawn")) Plotly.purge(box);
    }
    figures.clear();
    document.getElementById("figures").replaceChildren(...group.charts.map(chartFigure));
    document.getElementById("missing").textContent =
      group.missing.length > 0 ? `Not stored for these rows: ${group.missing.join(", ")}.` : "";
  }

  const comparison = document.getElementById("comparison");
  if (comparison && content.charts.length > 0) {
    comparison.append(...content.charts.map((group, number) => make("option", { value: number }, group.title)));
    comparison.addEventListener("change", () => showCharts(content.charts[comparison.value]));
    comparison.closest("p").hidden = content.charts.length === 1;
    showCharts(content.charts[0]);
  }

  // --- pictures ---

  const sprites = document.head.appendChild(make("style")).sheet;
  const known = new Set();

  /** One tile of a sprite, so many times as large as it is stored. */
  function tile(name, sprite, row, column, scale) {
    if (!known.has(name)) {
      sprites.insertRule(`.${name} { background-image: url("${sprite.url}") }`);
      known.add(name);
    }
    const [width, height] = sprite.tile.map((side) => side * scale);
    const element = make("span", { class: `tile ${name}`, "aria-hidden": "true" });
    Object.assign(element.style, {
      width: `${width}px`,
      height: `${height}px`,
      backgroundSize: `${sprite.columns * width}px ${sprite.counts.length * height}px`,
      backgroundPosition: `${-column * width}px ${-row * height}px`,
    });
    return element;
  }

  function picture(gallery, row, column) {
    const place = gallery.sprite.counts.slice(0, row).reduce((sum, count) => sum + count, 0) + column;
    const nearest = gallery.nearest[place];
    const words = nearest ? `${nearest[0]} at ${nearest[1].toFixed(3)}` : "";
    const title = `${gallery.title}, ${gallery.names[row]}, image ${column + 1}`;
    return { gallery, row, column, title, words, label: nearest ? `${title}; nearest real image ${words}` : title };
  }

  function tiles({ gallery, row, column }, side) {
    const number = content.galleries.indexOf(gallery);
    const kinds = [["sprite", gallery.sprite], ["real", gallery.real]].filter(([, sprite]) => sprite !== null);
    return kinds.map(([kind, sprite]) => {
      const scale = Math.max(1, Math.round(side / Math.max(...sprite.tile)));
      return tile(`${kind}-${number}`, sprite, row, column, scale);
    });
  }

  const zoom = document.getElementById("zoom");
  let shown = [];
  let place = 0;

  function enlarge(index) {
    place = (index + shown.length) % shown.length;
    const current = shown[place];
    const kinds = ["synthetic", "nearest real image"];
    const large = tiles(current, Math.min(256, innerWidth / 3)).map((element, number) =>
      make("figure", {}, element, make("figcaption", {}, kinds[number])),
    );
    document.getElementById("zoom-title").textContent = current.title;
    const words = current.words ? [make("p", {}, `Nearest real image: ${current.words}`)] : [];
    one(".pair", zoom).replaceChildren(...large, ...words);
    if (!zoom.open) zoom.showModal();
  }

  one(".before", zoom).addEventListener("click", () => enlarge(place - 1));
  one(".after", zoom).addEventListener("click", () => enlarge(place + 1));
  zoom.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) enlarge(place + step);
  });

  /** What the gallery can show: one set by class, or one class of every set of some data and size. */
  function views() {
    const sets = content.galleries.map((gallery) => ({
      label: `${gallery.title} (${gallery.group})`,
      kind: "One set, by class",
      rows: gallery.names.map((name, row) => ({ heading: name, gallery, row })),
    }));
    const classes = new Map();
    for (const gallery of content.galleries) {
      gallery.names.forEach((name, row) => {
        const label = `${name} (${gallery.group})`;
        if (!classes.has(label)) classes.set(label, { label, kind: "One class of every set", rows: [] });
        classes.get(label).rows.push({ heading: gallery.title, gallery, row });
      });
    }
    return [...sets, ...[...classes.values()].filter((view) => view.rows.length > 1)];
  }

  function pictureRow({ heading, gallery, row }) {
    const buttons = Array.from({ length: gallery.sprite.counts[row] }, (_, column) => {
      const current = picture(gallery, row, column);
      const index = shown.push(current) - 1;
      const caption = current.words ? [make("small", {}, current.words)] : [];
      const attributes = { type: "button", "aria-label": current.label, onclick: () => enlarge(index) };
      return make("li", {}, make("button", attributes, make("span", {}, ...tiles(current, 48)), ...caption));
    });
    return make("div", {}, make("h3", {}, heading), make("ul", { class: "pictures" }, ...buttons));
  }

  function showPictures(view) {
    shown = [];
    document.getElementById("tiles").replaceChildren(...view.rows.map(pictureRow));
  }

  const gallerySelect = document.getElementById("gallery");
  if (gallerySelect) {
    const every = views();
    for (const kind of new Set(every.map((view) => view.kind))) {
      const options = [...every.entries()].filter(([, view]) => view.kind === kind);
      const group = make("optgroup", { label: kind });
      group.append(...options.map(([number, view]) => make("option", { value: number }, view.label)));
      gallerySelect.append(group);
    }
    gallerySelect.addEventListener("change", () => showPictures(every[gallerySelect.value]));
    gallerySelect.closest("p").hidden = every.length === 1;
    showPictures(every[0]);
    content.galleries.forEach((gallery, number) => {
      for (const key of gallery.keys) {
        const button = rows.has(key) ? one(".to-pictures", rows.get(key)) : null;
        if (!button) continue;
        button.hidden = false;
        button.addEventListener("click", () => {
          gallerySelect.value = number;
          showPictures(every[number]);
          document.getElementById("pictures").scrollIntoView();
          gallerySelect.focus({ preventScroll: true });
        });
      }
    });
  }

  showTheme();
  follow();
})();
