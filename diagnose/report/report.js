"use strict";
// The page reads without this script: it adds copying, filtering, sorting, and figures that answer to pointer and keys.

function make(tag, attributes = {}, ...children) {
  const drawn = ["svg", "g", "path", "line", "text", "rect", "circle", "image"].includes(tag);
  const e = drawn ? document.createElementNS("http:" + "//www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== false) e.setAttribute(name, value === true ? "" : value);
  e.append(...children);
  return e;
}

// ---- copying, evidence ----

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = document.getElementById(button.dataset.copy);
    let done = true;
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      done = document.execCommand("copy");
    }
    const label = button.textContent;
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = label; }, 1600);
  });
}
for (const button of document.querySelectorAll("button[data-open]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const all = [...document.querySelectorAll(`#${button.dataset.open} details.evidence`)];
    const open = all.some((d) => !d.open);
    for (const d of all) d.open = open;
    button.setAttribute("aria-expanded", String(open));
  });
}

// ---- filter of checks ----

for (const form of document.querySelectorAll("form.filter")) {
  const bodies = [...document.querySelectorAll("#checks .checks > tbody")];
  const words = bodies.map((b) => b.textContent.toLowerCase());
  const said = form.querySelector("output"), search = form.querySelector("input[type=search]");
  const filter = () => {
    const states = new Set([...form.querySelectorAll("input[type=checkbox]:checked")].map((c) => c.value));
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    bodies.forEach((b, i) => {
      b.hidden = !states.has(b.dataset.status) || !wanted.every((w) => words[i].includes(w));
      shown += !b.hidden;
    });
    said.textContent = shown === bodies.length ? "" : `${shown} of ${bodies.length} checks`;
  };
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter(); // a browser may restore what was typed before
}

// ---- sorting ----

for (const table of document.querySelectorAll("table.shaded")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const v = row.cells[column].dataset.v;
    return v === undefined ? null : v === "nan" ? Infinity : v === "inf" ? 1e308 : v === "-inf" ? -1e308 : Number(v);
  };
  heads.forEach((head, column) => {
    const button = make("button", { type: "button", class: "sort" });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = head.getAttribute("aria-sort");
      const down = column ? order !== "descending" : order === "ascending";
      for (const h of heads) h.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      const sorted = column === 0 ? (down ? [...rows].reverse() : rows) : [...rows].sort((a, b) => {
        const x = value(a, column), y = value(b, column);
        if (x === null || y === null) return (x === null) - (y === null);
        return x === y ? rows.indexOf(a) - rows.indexOf(b) : sign * (x < y ? -1 : 1);
      });
      body.append(...sorted);
    });
  });
}

// ---- figures ----

const HINT = "Point at it to read values, drag to zoom.";
const LEFT = 62, RIGHT = 16, TOP = 26, BOTTOM = 38, COLOURS = 8, DASHES = 4, SHOWN = 6, SCALE = 62, ABSENT = 255;

function number(v, digits = 3) {
  if (Number.isNaN(v)) return "NaN";
  if (!Number.isFinite(v)) return v > 0 ? "∞" : "-∞";
  if (v === 0) return "0";
  const size = Math.abs(v);
  if (Number.isInteger(v) && size < 1e7) return v.toLocaleString("en");
  if (size >= 1e5 || size < 1e-4) return v.toExponential(digits - 1).replace(/\.?0+e/, "e");
  return String(Number(v.toPrecision(digits)));
}

function ticks(low, high, about = 4) {
  const raw = (high - low) / about;
  if (!(raw > 0)) return [low];
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * unit).find((s) => s >= raw);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high && found.length < 9; k++) found.push(k * step);
  return found;
}

function decades(low, high) {
  const found = [];
  if (high - low > 2) {
    const every = Math.ceil((high - low) / 5);
    for (let d = Math.ceil(low); d <= high; d++) if (d % every === 0) found.push(d);
  } else for (const steps of [[1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 7, 8]]) {
    if (found.length > 2) break;
    found.length = 0;
    for (let d = Math.floor(low); d <= high; d++) for (const m of steps) {
      const at = d + Math.log10(m);
      if (at >= low && at <= high) found.push(at);
    }
  }
  return found.length ? found : [(low + high) / 2];
}

function evenly(count, most) {
  if (count <= most) return [...Array(count).keys()];
  return [...new Set(Array.from({ length: most }, (_, i) => Math.round(i * (count - 1) / (most - 1))))];
}

function look(colour) { return `line c${colour % COLOURS} d${Math.floor(colour / COLOURS) % DASHES}`; }

function nearest(sorted, value) {
  let low = 0, high = sorted.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle; else high = middle;
  }
  return Math.abs(sorted[low] - value) <= Math.abs(sorted[high] - value) ? low : high;
}

// A figure with a horizontal axis that zooms, a cursor that reads values, and the same by keys.
class Chart {
  constructor(figure, name) {
    this.figure = figure;
    for (const old of figure.querySelectorAll(":scope > svg, :scope > .legend")) old.remove();
    this.controls = make("div", { class: "controls" });
    this.frame = make("div", { class: "frame", tabindex: 0, role: "group", "aria-label": `${name}. Left and right arrow keys read values, plus and minus zoom, 0 shows all.` });
    this.said = make("output", { class: "readout" }, HINT);
    this.legend = make("ul", { class: "legend", hidden: true });
    this.whole = make("button", { type: "button", class: "whole", hidden: true }, "Show all steps");
    this.whole.addEventListener("click", () => this.zoom(...this.all));
    figure.append(this.controls, this.frame, make("div", { class: "below" }, this.said, this.whole), this.legend);
    this.cursor = null;
    this.listen();
    new ResizeObserver(() => { if (this.frame.clientWidth !== this.width) this.draw(); }).observe(this.frame);
  }

  listen() {
    const at = (event) => this.from(event.clientX - this.frame.getBoundingClientRect().left);
    const high = (event) => event.clientY - this.frame.getBoundingClientRect().top;
    let start = null;
    this.frame.addEventListener("pointermove", (event) => {
      this.point(at(event), high(event));
      if (start !== null) this.select(start, at(event));
    });
    this.frame.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      start = at(event);
      this.frame.setPointerCapture(event.pointerId);
    });
    this.frame.addEventListener("pointerup", (event) => {
      const [a, b] = [start, at(event)].sort((x, y) => x - y);
      const wide = start !== null && Math.abs(this.to(a) - this.to(b)) > 8;
      start = null;
      if (wide) this.zoom(a, b); else this.select();
    });
    this.frame.addEventListener("pointercancel", () => { start = null; this.select(); }); // the page was scrolled
    this.frame.addEventListener("pointerleave", () => { this.cursor = null; this.point(); });
    this.frame.addEventListener("dblclick", () => this.zoom(...this.all));
    this.frame.addEventListener("keydown", (event) => {
      const [low, high] = this.seen, span = high - low, middle = this.cursor ?? (low + high) / 2;
      if (event.key === "ArrowLeft" || event.key === "ArrowRight") this.step(event.key === "ArrowLeft" ? -1 : 1);
      else if (event.key === "ArrowUp" || event.key === "ArrowDown") this.other(event.key === "ArrowUp" ? -1 : 1);
      else if (event.key === "+" || event.key === "=") this.zoom(middle - span / 4, middle + span / 4);
      else if (event.key === "-") this.zoom(middle - span, middle + span);
      else if (event.key === "0" || event.key === "Escape") this.zoom(...this.all);
      else return;
      event.preventDefault();
    });
  }

  to(x) { return LEFT + (x - this.seen[0]) / (this.seen[1] - this.seen[0] || 1) * (this.width - LEFT - RIGHT); }

  from(pixels) {
    const x = this.seen[0] + (pixels - LEFT) / (this.width - LEFT - RIGHT) * (this.seen[1] - this.seen[0]);
    return Math.min(Math.max(x, this.seen[0]), this.seen[1]);
  }

  zoom(low, high) {
    const [first, last] = this.all;
    if (high - low < this.least) {
      const middle = (low + high) / 2;
      [low, high] = [middle - this.least / 2, middle + this.least / 2];
    }
    this.seen = [Math.max(low, first), Math.min(high, last)];
    this.whole.hidden = this.seen[0] === first && this.seen[1] === last;
    this.draw();
  }

  select(a, b) {
    this.svg.querySelector(".selected")?.remove();
    if (a === undefined) return;
    const [x, y] = [this.to(a), this.to(b)].sort((p, q) => p - q);
    this.svg.append(make("rect", { class: "selected", x, y: TOP, width: y - x, height: this.height - TOP - BOTTOM }));
  }

  begin(title) {
    this.width = this.frame.clientWidth || 420;
    this.height = this.figure.classList.contains("wide") ? 320 : 236;
    this.svg = make("svg", { class: "chart live", viewBox: `0 0 ${this.width} ${this.height}`, width: this.width, height: this.height, "aria-hidden": "true" });
    this.text(2, 13, title, "start", "title");
    this.frame.replaceChildren(this.svg);
  }

  text(x, y, text, anchor, kind) { this.svg.append(make("text", { x, y, class: kind, "text-anchor": anchor }, text)); }

  line(x1, y1, x2, y2, kind) { this.svg.append(make("line", { x1, y1, x2, y2, class: kind })); }

  feet(marks) {
    const ground = this.height - BOTTOM;
    this.line(LEFT, ground, this.width - RIGHT, ground, "axis");
    let free = -Infinity;
    for (const [at, text] of marks) {
      if (at < free) continue;
      free = at + 8 * text.length + 14;
      this.line(at, ground, at, ground + 4, "axis");
      this.text(at, ground + 17, text, "middle", "tick");
    }
    this.text((LEFT + this.width - RIGHT) / 2, this.height - 4, "step", "middle", "title");
  }

  mark(x) {
    this.svg.querySelector(".cursor")?.remove();
    if (x !== null) this.svg.append(make("line", { class: "cursor", x1: x, x2: x, y1: TOP, y2: this.height - BOTTOM }));
  }
}

class Lines extends Chart {
  constructor(figure, name) {
    super(figure, name);
    this.near = 0;
  }

  // series: [{name, steps, values, colour}]
  show(series, title, log) {
    Object.assign(this, { series, title, log });
    const ends = series.flatMap((s) => [s.steps[0], s.steps.at(-1)]);
    this.all = ends.length ? [Math.min(...ends), Math.max(...ends, Math.min(...ends) + 1)] : [0, 1];
    this.least = 2;
    this.seen ??= [...this.all];
    this.zoom(...this.seen);
  }

  draw() {
    this.begin(this.title);
    const [first, last] = this.seen, y = this.log ? (v) => (v > 0 ? Math.log10(v) : NaN) : (v) => v;
    const inside = [];
    for (const s of this.series) s.steps.forEach((step, i) => {
      const v = y(s.values[i]);
      if (step >= first && step <= last && Number.isFinite(v)) inside.push(v);
    });
    inside.sort((a, b) => a - b);
    const at = (share) => inside[Math.round(share * (inside.length - 1))];
    let [low, high] = inside.length ? [inside[0], at(1)] : [0, 1];
    if (!this.log && inside.length > 20) { // an outlier must not flatten the rest
      const spread = 8 * (at(0.9) - at(0.1));
      [low, high] = spread ? [Math.max(low, at(0.1) - spread), Math.min(high, at(0.9) + spread)] : [low, high];
    }
    if (this.log) low = Math.max(low, high - 14);
    const room = 0.06 * (high - low) || 0.05 * Math.abs(high) || 0.5;
    [low, high] = [low - room, high + room];
    const ground = this.height - BOTTOM;
    const drawn = (v) => Number.isFinite(y(v)) || (this.log && v === 0); // zero stands on the ground
    this.up = (v) => (this.log && v === 0) ? ground : ground - (Math.min(Math.max(y(v), low - room), high + room) - low) / (high - low) * (ground - TOP);
    for (const tick of this.log ? decades(low, high) : ticks(low, high)) {
      const level = ground - (tick - low) / (high - low) * (ground - TOP);
      this.line(LEFT, level, this.width - RIGHT, level, "grid");
      this.text(LEFT - 6, level + 4, number(this.log ? 10 ** tick : tick, 2), "end", "tick");
    }
    const feet = ticks(first, last, Math.max(2, Math.min(6, this.width / 80))).filter(Number.isInteger);
    this.feet(feet.map((s) => [this.to(s), number(s)]));
    if (!inside.length) this.text((LEFT + this.width - RIGHT) / 2, this.height / 2, this.series.length ? "no finite number" : "no layer is shown", "middle", "note");
    this.paths = this.series.map((s) => {
      let path = "", lifted = true;
      s.steps.forEach((step, i) => {
        if (!drawn(s.values[i]) || step < first || step > last) { lifted = true; return; }
        path += `${lifted ? "M" : "L"}${this.to(step).toFixed(1)} ${this.up(s.values[i]).toFixed(1)}`;
        if (lifted && !drawn(s.values[i + 1] ?? NaN)) path += "h.1"; // alone between breaks: a dot
        lifted = false;
      });
      const line = make("path", { class: look(s.colour), d: path });
      this.svg.append(line);
      return line;
    });
    if (this.cursor !== null) this.point(this.cursor);
  }

  point(x, pixels) {
    for (const p of this.paths ?? []) p.classList.remove("near");
    if (x === undefined || this.cursor === undefined || !this.series.length) { this.mark(null); this.said.textContent = HINT; return; }
    if (pixels !== undefined) {
      let best = Infinity;
      this.series.forEach((s, k) => {
        const away = Math.abs(this.up(s.values[nearest(s.steps, x)]) - pixels);
        if (away < best) [best, this.near] = [away, k];
      });
    }
    this.near = Math.min(this.near, this.series.length - 1);
    const s = this.series[this.near], i = nearest(s.steps, x);
    this.cursor = s.steps[i];
    this.mark(this.to(s.steps[i]));
    if (this.series.length > 1) this.paths[this.near].classList.add("near");
    this.said.textContent = `step ${number(s.steps[i])}: ${s.name ? `${s.name}: ` : ""}${number(s.values[i])}`;
  }

  step(by) {
    const s = this.series[Math.min(this.near, this.series.length - 1)];
    if (!s) return;
    const i = this.cursor === null ? (by > 0 ? 0 : s.steps.length - 1) : nearest(s.steps, this.cursor) + by;
    this.point(s.steps[Math.min(Math.max(i, 0), s.steps.length - 1)]);
  }

  other(by) {
    if (!this.series.length) return;
    this.near = (this.near + by + this.series.length) % this.series.length;
    this.point(this.cursor ?? this.seen[0]);
  }
}

function picker(label, names, value, changed) {
  const select = make("select", {}, ...names.map((n, i) => make("option", { value: i }, n.length > 70 ? `${n.slice(0, 34)} … ${n.slice(-34)}` : n)));
  select.value = value;
  select.addEventListener("change", () => changed(Number(select.value)));
  return make("label", {}, `${label} `, select);
}

// One quantity of many layers: which one, of which layers.
class Layers extends Lines {
  constructor(figure, record) {
    super(figure, "Statistics of layers over steps");
    this.record = record;
    this.chosen = {};
    this.caption = figure.querySelector("figcaption");
    const names = record.quantities.map((q) => `${record.sort(q.grid)}: ${q.title}`);
    const at = Math.max(0, record.quantities.findIndex((q) => q.key === figure.dataset.key));
    this.search = make("input", { type: "search", placeholder: "part of a name", "aria-label": "Layers whose name holds" });
    this.list = make("div", { class: "choices", tabindex: 0, role: "group", "aria-label": "Layers" });
    this.summary = make("summary");
    const all = make("button", { type: "button" }, "Show these"), none = make("button", { type: "button" }, "Hide these");
    all.addEventListener("click", () => this.put(this.found(), true));
    none.addEventListener("click", () => this.put(this.found(), false));
    this.search.addEventListener("input", () => this.fill());
    this.chooser = make("details", { class: "chooser" }, this.summary, make("div", { class: "controls" }, this.search, all, none), this.list);
    this.chooser.addEventListener("toggle", () => this.fill());
    this.controls.append(picker("Quantity", names, at, (i) => this.take(i)), this.chooser);
    this.legend.hidden = false;
    this.take(at);
  }

  take(i) {
    this.quantity = this.record.quantities[i];
    this.grid = this.record.grids[this.quantity.grid];
    this.values = this.record.small(this.quantity.at, this.grid.places.length * this.grid.steps.length);
    const kept = this.chosen[this.quantity.grid] ??= new Map(evenly(this.grid.places.length, SHOWN).map((p, k) => [p, k]));
    this.seen = undefined;
    this.cursor = null;
    this.caption.replaceChildren(make("strong", {}, this.quantity.title), `: ${this.quantity.means}.`);
    this.fill();
    this.refresh(kept);
  }

  found() {
    const wanted = this.search.value.toLowerCase();
    return this.grid.places.map((_, i) => i).filter((i) => this.grid.places[i].toLowerCase().includes(wanted));
  }

  fill() {
    if (!this.chooser.open) return;
    const kept = this.chosen[this.quantity.grid];
    this.list.replaceChildren(...this.found().map((i) => {
      const box = make("input", { type: "checkbox", value: i });
      box.checked = kept.has(i);
      box.addEventListener("change", () => this.put([i], box.checked));
      return make("label", {}, box, make("bdi", {}, this.grid.places[i]));
    }));
  }

  put(places, seen) {
    const kept = this.chosen[this.quantity.grid];
    for (const place of places) {
      if (!seen) kept.delete(place);
      else if (!kept.has(place)) {
        const used = new Set(kept.values());
        let colour = 0;
        while (used.has(colour)) colour++;
        kept.set(place, colour);
      }
    }
    this.fill();
    this.refresh(kept);
  }

  refresh(kept) {
    const { places, steps } = this.grid, width = steps.length;
    const order = [...kept.keys()].sort((a, b) => a - b);
    this.summary.textContent = `Layers: ${order.length} of ${places.length} shown`;
    this.legend.replaceChildren(...order.slice(0, COLOURS * DASHES).map((p) => {
      const colour = kept.get(p), line = make("path", { class: look(colour), d: "M1 5h24" });
      const hide = make("button", { type: "button", class: "hide", title: "Hide this layer" }, make("svg", { class: "swatch", viewBox: "0 0 26 10", "aria-hidden": "true" }, line), make("span", { class: "unseen" }, "Hide "), make("bdi", {}, places[p]));
      hide.addEventListener("click", () => this.put([p], false));
      return make("li", {}, hide);
    }));
    const unit = this.quantity.unit ? ` (${this.quantity.unit})` : "";
    const series = order.map((p) => ({ name: places[p], steps, values: this.values.subarray(p * width, (p + 1) * width), colour: kept.get(p) }));
    this.show(series, `${this.quantity.title}${unit}`, this.quantity.log);
  }
}

// Histograms over time: a column a recorded step, a row a bin of values.
class Heat extends Chart {
  constructor(figure, record) {
    super(figure, "Histogram over time");
    this.record = record;
    this.caption = figure.querySelector("figcaption");
    this.layer = make("span");
    const at = Math.max(0, record.heats.findIndex((h) => h.key === figure.dataset.key));
    this.controls.append(picker("Of", record.heats.map((h) => h.title), at, (i) => this.kind(i)), this.layer);
    this.least = 2;
    this.level = 0;
    this.kind(at);
  }

  kind(i) {
    this.of = this.record.heats[i];
    this.all = [0, this.of.steps.length];
    this.seen = [...this.all];
    const middle = this.of.places.length >> 1;
    this.layer.replaceChildren(picker("Layer", this.of.places, middle, (p) => this.place(p)));
    this.place(middle);
  }

  place(p) {
    const [at, kept, top] = this.of.maps[p], rows = 2 * kept + 4, columns = this.of.steps.length;
    this.cells = this.record.bytes(at, rows * columns);
    this.kept = kept;
    this.magnitude = Array.from({ length: kept + 1 }, (_, j) => {
      const half = top - kept + 1 + j;
      return (half & 1 ? 1.5 : 1) * 2 ** Math.floor(half / 2);
    });
    const broken = this.cells.subarray((rows - 1) * columns).some((c) => c && c !== ABSENT);
    this.rows = broken ? rows : rows - 1;
    this.caption.replaceChildren(make("strong", {}, `${this.of.title} of `, make("bdi", {}, this.of.places[p])), `: ${this.of.see}. A column is a recorded step, a row a bin of values, two an octave; bright is where most values are.`);
    this.cursor = null;
    this.said.textContent = HINT;
    this.draw();
  }

  bin(row) {
    const m = this.magnitude, k = this.kept, up = row - k - 3;
    if (row === 2 * k + 3) return "NaN or infinite";
    if (row === k + 1) return "exactly 0";
    if (row === k) return `between -${number(m[0])} and 0`;
    if (row === k + 2) return `between 0 and ${number(m[0])}`;
    return row < k ? `-${number(m[k - row])} to -${number(m[k - row - 1])}` : `${number(m[up])} to ${number(m[up + 1])}`;
  }

  draw() {
    this.begin("value");
    const columns = this.of.steps.length, { rows, cells, kept } = this;
    const canvas = make("canvas", { width: columns, height: rows }), pen = canvas.getContext("2d");
    const image = pen.createImageData(columns, rows);
    const brightest = cells.reduce((most, c) => (c !== ABSENT && c > most ? c : most), 1);
    for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) {
      const cell = cells[r * columns + c], at = ((rows - 1 - r) * columns + c) * 4;
      if (cell === ABSENT) continue;
      image.data.set([...this.record.colour(cell / brightest), 255], at);
    }
    pen.putImageData(image, 0, 0);
    const right = this.width - RIGHT - 44, { palette } = this.record;
    this.text(right - 10 * palette.length - 6, 13, "share: 0", "end", "tick");
    palette.forEach((c, i) => this.svg.append(make("rect", { class: "key", x: right - 10 * (palette.length - i), y: 4, width: 10, height: 10, fill: `rgb(${c})` })));
    this.text(right + 6, 13, `${number(100 * (brightest / SCALE) ** 2, 2)} %`, "start", "tick");
    const [low, high] = this.seen, ground = this.height - BOTTOM, tall = (ground - TOP) / rows;
    const cut = make("canvas", { width: Math.max(1, Math.round(high) - Math.round(low)), height: rows });
    this.seen = [Math.round(low), Math.round(low) + cut.width];
    cut.getContext("2d").drawImage(canvas, -this.seen[0], 0);
    this.svg.append(make("image", { class: "pixels", x: LEFT, y: TOP, width: this.width - LEFT - RIGHT, height: ground - TOP, preserveAspectRatio: "none", href: cut.toDataURL() }));
    const outer = 2 * kept + 3, inner = outer - (kept >> 1), m = this.magnitude;
    const marks = [[outer, m[kept]], [inner, m[inner - kept - 3]], [outer / 2, 0], [outer - inner, -m[inner - kept - 3]], [0, -m[kept]]];
    for (const [edge, value] of marks) {
      this.line(LEFT - 4, ground - edge * tall, LEFT, ground - edge * tall, "axis");
      this.text(LEFT - 7, ground - edge * tall + 4, number(value, 2), "end", "tick");
    }
    if (rows === 2 * kept + 4) this.text(LEFT + 6, TOP + 14, "top row: NaN, ∞", "start", "over");
    const some = evenly(cut.width, Math.max(2, Math.min(6, Math.floor(this.width / 110)))).map((i) => this.seen[0] + i);
    this.feet(some.map((i) => [this.to(i + 0.5), number(this.of.steps[i])]));
    if (this.cursor !== null) this.point(this.cursor);
  }

  point(x, pixels) {
    if (x === undefined) { this.mark(null); this.said.textContent = HINT; return; }
    const column = Math.min(Math.max(Math.floor(x), this.seen[0]), this.seen[1] - 1), ground = this.height - BOTTOM;
    if (pixels !== undefined) this.level = Math.floor((ground - pixels) / (ground - TOP) * this.rows);
    this.level = Math.min(Math.max(this.level, 0), this.rows - 1);
    this.cursor = column + 0.5;
    this.mark(this.to(this.cursor));
    const cell = this.cells[this.level * this.of.steps.length + column], share = (cell / SCALE) ** 2;
    const said = cell === ABSENT ? "nothing recorded" : `${cell ? `about ${number(100 * share, 2)}` : "less than 0.01"} % of the ${this.of.elements}`;
    this.said.textContent = `step ${number(this.of.steps[column])}, ${this.bin(this.level)}: ${said}`;
  }

  step(by) { this.point(this.cursor === null ? this.seen[by > 0 ? 0 : 1] : this.cursor + by); }

  other(by) {
    this.level -= by;
    this.point(this.cursor ?? this.seen[0]);
  }
}

class Packed {
  constructor(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    Object.assign(this, JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length))));
    this.buffer = buffer;
    this.base = 4 + length;
    this.palette = this.palette.map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));
  }

  floats(at, count) { return new Float32Array(this.buffer, this.base + at, count); }

  bytes(at, count) { return new Uint8Array(this.buffer, this.base + at, count); }

  small(at, count) { // bfloat16
    const wide = new Uint32Array(count);
    new Uint16Array(this.buffer, this.base + at, count).forEach((v, i) => { wide[i] = v << 16; });
    return new Float32Array(wide.buffer);
  }

  sort(grid) { return { activations: "Outputs", units: "Outputs", weights: "Weights", gradients: "Gradients", updates: "Updates" }[grid] ?? grid; }

  colour(share) {
    const at = share * (this.palette.length - 1), i = Math.min(Math.floor(at), this.palette.length - 2);
    return this.palette[i].map((c, k) => Math.round(c + (at - i) * (this.palette[i + 1][k] - c)));
  }
}

async function figures() {
  const data = document.getElementById("record");
  if (!data || !("DecompressionStream" in window)) return; // the pictures stay
  const bytes = Uint8Array.from(atob(data.content.textContent.trim()), (c) => c.charCodeAt(0));
  const whole = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
  const record = new Packed(whole);
  for (const figure of document.querySelectorAll("figure.drawn[data-kind]")) {
    if (figure.dataset.kind === "lines") new Layers(figure, record);
    else if (figure.dataset.kind === "heat") new Heat(figure, record);
    else {
      const c = record.curves.find((one) => one.key === figure.dataset.key);
      const chart = new Lines(figure, c.title);
      chart.show([{ name: "", steps: c.steps, values: record.floats(c.at, c.steps.length), colour: 0 }], c.unit ? `${c.title} (${c.unit})` : c.title, c.log);
    }
  }
  document.documentElement.dataset.figures = "live";
}
figures();
