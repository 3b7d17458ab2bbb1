// What is selected, how high rows are, and what a key does.

const HEIGHTS = [1, 2, 4, 7, 10, 15, 19, 23, 27, 32, 38, 46];
const HEIGHT_USUAL = 27;
const HEIGHT_SHORT = 38;
// What browsers can scroll. Unit: CSS pixels.
const HEIGHT_MAX = 8_000_000;

const model = readTrace(JSON.parse(byId("trace").textContent));
model.crashes = model.steps.filter((step) => step.kind === "crash").map((step) => step.step);

const view = {
  model,
  selected: 0,
  height: HEIGHT_USUAL,
  layout: layoutOf(model, 900),
  query: "",
  hits: new Set(),
};
const scroller = byId("scroller");

function heights() {
  const most = HEIGHT_MAX / Math.max(1, model.steps.length);
  return HEIGHTS.filter((height) => height === HEIGHTS[0] || height <= most);
}

// Draws what is in view, once per frame at most.
let isAsked = false;
function redraw() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(() => {
    isAsked = false;
    draw();
  });
}

function draw() {
  const { height } = view;
  const above = byId("lanes").offsetHeight;
  const top = scroller.scrollTop;
  const first = Math.max(0, Math.floor(top / height) - 2);
  const rows = Math.ceil((scroller.clientHeight - above) / height) + 4;
  const last = Math.min(model.last, first + rows);
  const diagram = byId("diagram");
  diagram.style.top = `${first * height}px`;
  const left = drawDiagram(diagram, view, first, last);
  drawRows(byId("steps"), view, first, last);
  drawLanes(byId("lanes"), view);
  byId("lanes").dataset.left = left ? `${left} messages are not drawn; zoom in` : "";
  drawOverview(byId("overview"), view, Math.round(top / height), last - 2);
  const isDrawn = view.selected >= first && view.selected <= last;
  if (isDrawn) byId("steps").setAttribute("aria-activedescendant", `step-${view.selected}`);
  else byId("steps").removeAttribute("aria-activedescendant");
}

// Selects a step, and scrolls as little as shows it, or into the middle if it was far.
function select(at) {
  if (model.last < 0) return;
  view.selected = Math.max(0, Math.min(model.last, at));
  reveal();
  drawPanel(view);
  byId("live").textContent =
    `Step ${view.selected}, ${sentence(model, model.steps[view.selected])}`;
  rememberStep();
  redraw();
}

function reveal() {
  const { height, selected } = view;
  const room = scroller.clientHeight - byId("lanes").offsetHeight;
  const y = selected * height;
  const border = Math.min(2.2 * height, room / 4);
  const [top, bottom] = [scroller.scrollTop + border, scroller.scrollTop + room - border - height];
  if (y >= top && y <= bottom) return;
  const isFar = y < top - room / 2 || y > bottom + room / 2;
  if (isFar) scroller.scrollTop = y - room * 0.45;
  else scroller.scrollTop += y < top ? y - top : y - bottom;
}

// The address follows a little later: browsers bound how often it may change.
let remembering = 0;
function rememberStep() {
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    history.replaceState(null, "", `#step=${view.selected}`);
  }, 120);
}

function stepOfAddress() {
  const found = /^#step=(\d+)$/.exec(location.hash);
  return found ? Number(found[1]) : null;
}

function zoom(way) {
  const all = heights();
  const at = all.findIndex((height) => height >= view.height);
  setHeight(all[Math.max(0, Math.min(all.length - 1, at + way))]);
}

function zoomToWhole() {
  const room = scroller.clientHeight - byId("lanes").offsetHeight;
  const fitting = heights().filter((height) => height * model.steps.length <= room);
  setHeight(fitting.length ? fitting[fitting.length - 1] : HEIGHTS[0]);
}

function sizeCanvas() {
  byId("canvas").style.height = `${model.steps.length * view.height}px`;
  byId("canvas").style.minWidth = `${view.layout.end + 300}px`;
}

// The selected step stays where it is.
function setHeight(height) {
  const offset = view.selected * view.height - scroller.scrollTop;
  view.height = height;
  sizeCanvas();
  scroller.scrollTop = view.selected * height - offset;
  reveal();
  redraw();
}

function rowsOfPage() {
  const room = scroller.clientHeight - byId("lanes").offsetHeight;
  return Math.max(1, Math.floor(room / view.height) - 2);
}

function search(text) {
  view.query = text.trim().toLowerCase();
  view.hits = new Set();
  if (view.query) {
    for (const step of model.steps) {
      if (sentence(model, step).toLowerCase().includes(view.query)) view.hits.add(step.step);
    }
  }
  const found = view.hits.size === 1 ? "1 step" : `${view.hits.size} steps`;
  byId("found").textContent = view.query ? found : "";
  redraw();
}

// The next step that was found, or the first again.
function toHit(way) {
  const hits = [...view.hits];
  if (!hits.length) return;
  const next = way > 0
    ? hits.find((at) => at > view.selected) ?? hits[0]
    : hits.findLast((at) => at < view.selected) ?? hits[hits.length - 1];
  select(next);
}

// The next step of the same node, or of the same client; a loss happens on the way to a node.
function toNeighbour(way) {
  const from = model.steps[view.selected];
  if (!from) return;
  const isOwn = (step) => from.client === undefined
    ? step.node === from.node && step.client === undefined && step.kind !== "lose"
    : step.client === from.client;
  let at = view.selected + way;
  while (at >= 0 && at <= model.last && !isOwn(model.steps[at])) at += way;
  if (at >= 0 && at <= model.last) select(at);
}

function toPartner() {
  const step = model.steps[view.selected];
  const found = step ? related(model, step) : [];
  if (found.length) select(found[0][1]);
}

const DEEDS = {
  first: () => select(0),
  previous: () => select(view.selected - 1),
  next: () => select(view.selected + 1),
  last: () => select(model.last),
  "page up": () => select(view.selected - rowsOfPage()),
  "page down": () => select(view.selected + rowsOfPage()),
  violation: () => { if (model.violation >= 0) select(model.violation); },
  search: () => { byId("query").focus(); byId("query").select(); },
  "next found": () => toHit(1),
  "previous found": () => toHit(-1),
  partner: toPartner,
  "next here": () => toNeighbour(1),
  "previous here": () => toNeighbour(-1),
  in: () => zoom(1),
  out: () => zoom(-1),
  whole: zoomToWhole,
  usual: () => setHeight(Math.min(HEIGHT_USUAL, heights()[heights().length - 1])),
  help: () => byId("help").showModal(),
  close: () => byId("help").close(),
};

const KEYS = {
  ArrowDown: "next", ArrowRight: "next", j: "next",
  ArrowUp: "previous", ArrowLeft: "previous", k: "previous",
  Home: "first", g: "first", End: "last", G: "last",
  PageUp: "page up", PageDown: "page down",
  v: "violation", Enter: "violation",
  "/": "search", n: "next found", N: "previous found",
  m: "partner", "]": "next here", "[": "previous here",
  "+": "in", "=": "in", "-": "out", 0: "whole", 1: "usual", "?": "help",
};

// A key of its own belongs to a button, a field or an open dialog.
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const target = event.target;
  if (target === byId("query")) {
    if (event.key === "Enter") toHit(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") { byId("query").value = ""; search(""); }
    if (event.key === "Escape" || event.key === "ArrowDown") byId("steps").focus();
    return;
  }
  if (event.key === "Enter" && target.closest?.("button, a")) return;
  const what = KEYS[event.key];
  if (!what) return;
  event.preventDefault();
  DEEDS[what]();
}

function onClick(event) {
  const target = event.target.closest?.("[data-do], [data-step]");
  if (!target) return;
  if (target.dataset.do) DEEDS[target.dataset.do]();
  else select(Number(target.dataset.step));
}

function onOverview(event) {
  if (event.type !== "pointerdown" && event.buttons !== 1) return;
  const box = byId("overview").getBoundingClientRect();
  select(Math.floor(((event.clientY - box.top) / box.height) * model.steps.length));
}

function fillHead() {
  const { head } = model;
  const isBroken = head.property !== null || model.violation >= 0;
  byId("verdict").className = isBroken ? "broken" : "holds";
  byId("sign").textContent = isBroken ? "✖" : "✓";
  const name = head.property ?? "a property";
  byId("property").replaceChildren(
    ...(isBroken ? [element("small", "", "Violated"), readable(name)] : ["No property broke"]));
  const why = head.why ?? (isBroken ? model.steps[model.violation]?.text : null);
  byId("why").textContent = readable(why ?? "");
  const awaited = (head.awaited ?? []).map((text) => element("li", "", readable(text)));
  byId("awaited").replaceChildren(...awaited);
  const facts = [
    ["protocol", head.protocol], ["model", head.model], ["buggify", head.buggify],
    ["seed", head.seed],
    ["mutant", head.mutant], ["version", head.version], ["digest", head.digest],
  ];
  for (const [what, value] of facts) {
    if (value) fact(what, element("span", what, readable(value)));
  }
  const command = element("code", "", readable(head.replay));
  const copy = element("button", "copy", "copy");
  copy.type = "button";
  copy.setAttribute("aria-label", "Copy the command that replays this run");
  copy.addEventListener("click", () => copyText(command, copy));
  fact("replay", element("span", "replay", null, command, copy));
  byId("to-violation").hidden = model.violation < 0;
}

function fact(what, value) {
  const made = element("div", "", null, element("dt", "", what), element("dd", "", null, value));
  byId("facts").append(made);
}

// Selects the text in any case, so that it can be copied by hand where the script may not.
function copyText(from, button) {
  getSelection().selectAllChildren(from);
  navigator.clipboard?.writeText(from.textContent).then(
    () => { button.textContent = "copied"; },
    () => { button.textContent = "selected"; });
}

function fillHelp() {
  const keys = [
    ["↓ j  /  ↑ k", "next / previous step"], ["Home g  /  End G", "first / last step"],
    ["PageDown  /  PageUp", "a screen further / back"], ["Enter v", "the violation"],
    ["m", "the other end of a message, an operation, a fault"],
    ["]  /  [", "next / previous step of the same node or client"],
    ["/", "search; Enter and Shift-Enter go on"], ["n  /  N", "next / previous step found"],
    ["+  /  -", "higher / lower rows"], ["0  /  1", "the whole run / the usual height"],
    ["?", "this help; Esc closes it"],
  ];
  const pair = ([key, what]) =>
    [element("dt", "", null, element("kbd", "", key)), element("dd", "", what)];
  byId("help-keys").append(element("dl", "", null, ...keys.flatMap(pair)));
  const signs = [
    ["★", "who leads has a broad lane; each term has a colour, and T says which"],
    ["✓", "an index up to which all is committed"],
    ["✕", "a node crashes, and is down where its lane is dotted"],
    ["‖", "a node is paused where its lane is hatched"],
    ["↛", "a message is lost at the cross; one sent again by the network arrives again (×2)"],
    ["▒", "a fault is in force where the lanes of its nodes are hatched"],
    ["◆ ■ ●", "a timer fires; a write is durable; a message is sent or received"],
  ];
  byId("help-signs").append(element("dl", "", null, ...signs.flatMap(pair)));
}

function resize() {
  view.layout = layoutOf(model, scroller.clientWidth);
  sizeCanvas();
  redraw();
}

// A short run fills the screen, a long one has rows of the usual height, one too long lower ones.
function heightAtFirst() {
  const most = heights()[heights().length - 1];
  const room = scroller.clientHeight - byId("lanes").offsetHeight;
  const fitting = heights().filter((height) => height * model.steps.length <= room);
  return Math.min(most, HEIGHT_SHORT, Math.max(HEIGHT_USUAL, fitting[fitting.length - 1] ?? 0));
}

function start() {
  fillHead();
  fillHelp();
  resize();
  setHeight(heightAtFirst());
  // A reader wants to see what broke; of a run that holds, how it began.
  select(stepOfAddress() ?? Math.max(0, model.violation));
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", onClick);
  scroller.addEventListener("scroll", redraw, { passive: true });
  byId("query").addEventListener("input", () => search(byId("query").value));
  for (const kind of ["pointerdown", "pointermove"]) {
    byId("overview").addEventListener(kind, onOverview);
  }
  window.addEventListener("resize", resize);
  window.addEventListener("hashchange", () => {
    if (stepOfAddress() !== null) select(stepOfAddress());
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  byId("steps").focus({ preventScroll: true });
}

start();
