// The space-time diagram: lanes, messages, faults and operations of the steps in view, as SVG.

const SVG = "http://www.w3.org/2000/svg";

// Messages that are drawn at once; more than these are a grey wall that nobody can read.
const DRAWN_MAX = 3000;

// Widths. Unit: CSS pixels.
const CLIENT_LANE = { least: 22, most: 76 };
const NODE_LANE = { least: 84, most: 148 };
const LEADER = 13;
const FOLLOWER = 5;

// Rows of this height and more have room for words and signs beside a lane.
const HEIGHT_OF_WORDS = 15;
// Below the first, arrows have no tips; below the second, only crashes and boots have signs.
const HEIGHT_OF_TIPS = 8;
const HEIGHT_OF_SIGNS = 4;

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Clients that do something in this story, in order. The others have no lane: a service has many,
// and a story that was made smaller is about one or two.
function clientsOf(model) {
  const acting = new Set(model.steps.map((step) => step.client));
  return model.head.clients.map((_, at) => at).filter((at) => acting.has(at));
}

// Where the lanes stand: clients first, because they begin what the nodes do.
function layoutOf(model, width) {
  const acting = clientsOf(model);
  const clients = acting.length;
  const nodes = model.head.nodes.length;
  const digits = String(Math.max(model.last, 0)).length;
  const time = millis(model.steps[model.last]?.at ?? 0).length;
  const gutter = 26 + (digits + time) * 7.6 + 16;
  const room = Math.max(0, width * 0.6 - gutter);
  const share = room / Math.max(1, nodes + clients * 0.5);
  const fit = (lane, wanted) => Math.min(lane.most, Math.max(lane.least, wanted));
  const clientLane = fit(CLIENT_LANE, share * 0.5);
  const nodeLane = fit(NODE_LANE, share);
  const nodesBegin = gutter + clients * clientLane + (clients ? 14 : 0);
  return {
    gutter,
    clientLane,
    nodeLane,
    clients: acting,
    client: (at) => gutter + clientLane * (acting.indexOf(at) + 0.5),
    node: (at) => nodesBegin + nodeLane * at + 26,
    nodesBegin,
    end: nodesBegin + nodeLane * nodes + 6,
  };
}

// Draws the rows from `first` to `last` into `root`, which begins at the top of row `first`.
function drawDiagram(root, view, first, last) {
  const { model, layout, height } = view;
  const drawing = {
    ...view,
    first,
    last,
    y: (step) => (step - first + 0.5) * height,
    top: -height,
    bottom: (last - first + 2) * height,
    hasWords: height >= HEIGHT_OF_WORDS,
  };
  const chosen = view.selected;
  const inView = (blocks) => during(blocks, first, last);
  const parts = [markers()];
  for (const fault of inView(model.timeline.faults)) parts.push(faultBand(drawing, fault));
  for (let node = 0; node < model.head.nodes.length; node += 1) parts.push(lane(drawing, node));
  for (const operation of inView(model.timeline.operations)) {
    parts.push(operationBar(drawing, operation));
  }
  const messages = [...inView(model.timeline.messages)];
  const isNear = (at) => at >= first && at <= last;
  // Those that begin or end in view say more than those that only pass.
  const passing = (message) => (isNear(message.begin) || isNear(message.end) ? 0 : 1);
  if (messages.length > DRAWN_MAX) messages.sort((a, b) => passing(a) - passing(b));
  const emphasised = model.messageOf.get(chosen);
  for (const message of messages.slice(0, DRAWN_MAX)) {
    if (message !== emphasised) parts.push(arrows(drawing, message, ""));
  }
  if (emphasised) parts.push(arrows(drawing, emphasised, " chosen"));
  root.style.setProperty("--weight", Math.max(0.2, Math.min(0.85, 120 / (messages.length + 1))));
  for (let at = first; at <= last; at += 1) parts.push(...signs(drawing, model.steps[at]));
  root.replaceChildren(...parts);
  root.setAttribute("width", layout.end);
  root.setAttribute("height", (last - first + 1) * height);
  return Math.max(0, messages.length - DRAWN_MAX);
}

// Shapes that are referred to by name.
function markers() {
  const head = (id, name) =>
    svg("marker", {
      id, class: name, viewBox: "0 0 8 8", refX: 7.2, refY: 4, markerWidth: 8, markerHeight: 8,
      markerUnits: "userSpaceOnUse", orient: "auto",
    }, svg("path", { d: "M0,0.6 L8,4 L0,7.4 L1.8,4 z" }));
  const hatch = (id, name, angle, space) =>
    svg("pattern", {
      id, class: name, width: space, height: space, patternUnits: "userSpaceOnUse",
      patternTransform: `rotate(${angle})`,
    }, svg("line", { x1: 0, y1: 0, x2: 0, y2: space }));
  return svg("defs", {},
    head("tip", "tip"), head("tip-chosen", "tip chosen"),
    hatch("hatch-fault", "hatch fault", 45, 7),
    hatch("hatch-paused", "hatch paused", -45, 5));
}

// A band over the lanes of the nodes that a fault concerns, from its begin to its end.
function faultBand(drawing, fault) {
  const { layout, height, y } = drawing;
  const group = svg("g", { class: "fault", "data-step": fault.begin });
  const top = Math.max(drawing.top, y(fault.begin) - height * 0.45);
  const bottom = Math.min(drawing.bottom, y(fault.end) + height * 0.45);
  const inset = 2 + Math.min(fault.depth, 4) * 4;
  const size = { y: top, height: Math.max(2, bottom - top) };
  for (const [from, to] of runs(fault.nodes, fault.groupOf)) {
    const x = layout.node(from) - 24 + inset;
    const width = layout.node(to) + layout.nodeLane - 32 - inset - x;
    const box = { x, width, rx: 5, ...size };
    group.append(svg("rect", { class: "tint", ...box }));
    group.append(svg("rect", { class: "lines", fill: "url(#hatch-fault)", ...box }));
  }
  return group;
}

// Neighbours of one group, as pairs of the first and the last.
function runs(places, groupOf) {
  const found = [];
  for (const place of [...places].sort((a, b) => a - b)) {
    const run = found[found.length - 1];
    const isNext = run && place <= run[1] + 1 && groupOf(place) === groupOf(run[1]);
    if (isNext) run[1] = place;
    else found.push([place, place]);
  }
  return found;
}

// The lane of a node: broad for who leads, coloured by term, hatched while paused, dots while down.
function lane(drawing, node) {
  const { model, layout, y } = drawing;
  const x = layout.node(node);
  const group = svg("g", { class: "lane" });
  const lives = model.lives[node];
  const begin = Math.max(0, lastAt(lives.begins, Math.max(0, drawing.first - 1)));
  for (let at = begin; at < lives.length && lives[at].begin <= drawing.last + 1; at += 1) {
    const life = lives[at];
    const isLast = at === lives.length - 1;
    const top = Math.max(drawing.top, life.begin === 0 ? y(0) : y(life.begin));
    const end = isLast ? y(model.last) + drawing.height * 0.45 : y(life.end);
    const bottom = Math.min(drawing.bottom, end);
    if (bottom <= top) continue;
    group.append(...stretch(model, life, x, top, bottom));
  }
  return group;
}

function stretch(model, life, x, top, bottom) {
  if (life.status === "down") {
    return [svg("line", { class: "down", x1: x, x2: x, y1: top, y2: bottom })];
  }
  const width = life.role === "leader" ? LEADER : FOLLOWER;
  const box = { x: x - width / 2, y: top, width, height: bottom - top };
  const name = `life ${termClass(model, life.term)} ${life.role}`;
  const drawn = [svg("rect", { class: name, ...box })];
  if (life.status === "paused") {
    const broad = { ...box, x: x - 8, width: 16, rx: 3 };
    drawn.push(svg("rect", { class: "paused-ground", ...broad }));
    drawn.push(svg("rect", { class: "paused", fill: "url(#hatch-paused)", ...broad }));
  }
  return drawn;
}

// How far an arrow stays from the middle of a lane.
function margin(model, node, step) {
  return lifeAt(model, node, step).role === "leader" ? LEADER / 2 + 2 : FOLLOWER / 2 + 3;
}

// The arrows of one message: one per receipt, a struck one per loss, a stub if nothing came of it.
function arrows(drawing, message, mark) {
  const { model } = drawing;
  const ends = message.ends.length ? message.ends : [{ step: message.end, kind: "open" }];
  const group = svg("g", { class: `message${mark}` });
  let receipts = 0;
  for (const end of ends) {
    receipts += end.kind === "receive" ? 1 : 0;
    const sent = message.sent ?? Math.max(0, end.step - 1);
    const line = { from: message.from, to: message.to, sent, end: end.step };
    if (Math.max(sent, end.step) < drawing.first - 1 || sent > drawing.last + 1) continue;
    if (model.head.nodes[line.from] === undefined || model.head.nodes[line.to] === undefined) {
      continue;
    }
    const isForged = message.sent === null;
    if (end.kind === "receive") group.append(...arrow(drawing, line, mark, receipts, isForged));
    else group.append(...brokenArrow(drawing, line, end.kind));
  }
  return group;
}

function arrow(drawing, line, mark, receipt, isForged) {
  const { model, layout, y, height } = drawing;
  const tip = height < HEIGHT_OF_TIPS ? {} : { "marker-end": `url(#tip${mark ? "-chosen" : ""})` };
  const name = `arrow${isForged ? " forged" : ""}${receipt > 1 ? " again" : ""}`;
  const drawn = [];
  if (line.from === line.to) {
    const x = layout.node(line.from) + margin(model, line.from, line.sent);
    const [top, bottom] = [y(line.sent), y(line.end)];
    const path = `M${x},${top} C${x + 34},${top} ${x + 34},${bottom} ${x + 3},${bottom}`;
    drawn.push(svg("path", { class: name, d: path, ...tip }));
  } else {
    const way = Math.sign(layout.node(line.to) - layout.node(line.from));
    const x1 = layout.node(line.from) + way * margin(model, line.from, line.sent);
    const x2 = layout.node(line.to) - way * margin(model, line.to, line.end);
    const [y1, y2] = [y(line.sent), y(line.end)];
    drawn.push(svg("line", { class: name, x1, y1, x2, y2, ...tip }));
    if (receipt > 1 && drawing.hasWords) {
      drawn.push(label(x2 - way * 26, y2 - 5, `×${receipt}`, "times"));
    }
  }
  return drawn;
}

// A message that does not arrive: up to where it is lost, and a cross there.
function brokenArrow(drawing, line, kind) {
  const { model, layout, y, height } = drawing;
  const share = kind === "lose" ? 0.6 : 0.35;
  const start = layout.node(line.from);
  const isLoop = line.from === line.to;
  const way = isLoop ? 1 : Math.sign(layout.node(line.to) - start);
  const x1 = start + way * margin(model, line.from, line.sent);
  const x2 = isLoop ? start + 30 : start + (layout.node(line.to) - start) * share;
  const [y1, y2] = [y(line.sent), y(line.end)];
  const name = kind === "lose" ? "arrow lost" : "arrow open";
  const drawn = [svg("line", { class: name, x1, y1, x2, y2 })];
  if (kind === "lose") {
    const arm = Math.max(2, Math.min(6, height / 3));
    const cross = `M${x2 - arm},${y2 - arm} L${x2 + arm},${y2 + arm} ` +
      `M${x2 - arm},${y2 + arm} L${x2 + arm},${y2 - arm}`;
    drawn.push(svg("path", { class: "cross-ground", d: cross }));
    drawn.push(svg("path", { class: "cross", d: cross, "data-step": line.end }));
  } else {
    drawn.push(svg("circle", { class: "open-end", cx: x2, cy: y2, r: 2.5 }));
  }
  return drawn;
}

// An operation of a client: a bar from its invocation to its return, and what joins it to a node.
function operationBar(drawing, operation) {
  const { layout, model, y, height } = drawing;
  const client = operation.first.client;
  const group = svg("g", { class: "operation", "data-step": operation.begin });
  if (model.head.clients[client] === undefined) return group;
  const x = layout.client(client) + Math.min(operation.depth, 3) * 9;
  const top = Math.max(drawing.top, y(operation.begin));
  const rest = operation.over === null ? height : 0;
  const bottom = Math.min(drawing.bottom, y(operation.end) + rest);
  const isOpen = operation.over === null ? " open" : "";
  const isChosen = [operation.begin, operation.over].includes(drawing.selected) ? " chosen" : "";
  const size = { x: x - 5, y: top - 4, width: 10, height: Math.max(8, bottom - top + 8), rx: 5 };
  group.append(svg("rect", { class: `bar${isOpen}${isChosen}`, ...size }));
  const over = operation.over === null ? null : model.steps[operation.over];
  for (const [step, isReturn] of [[operation.first, false], [over, true]]) {
    if (!step || step.node === undefined || model.head.nodes[step.node] === undefined) continue;
    if (step.step < drawing.first - 1 || step.step > drawing.last + 1) continue;
    if (height < HEIGHT_OF_TIPS && !isChosen) continue;
    const end = layout.node(step.node) - margin(model, step.node, step.step);
    const [x1, x2] = isReturn ? [end, x + 7] : [x + 7, end];
    const tip = { "marker-end": "url(#tip)" };
    const at = y(step.step);
    group.append(svg("line", { class: `call${isChosen}`, x1, x2, y1: at, y2: at, ...tip }));
  }
  return group;
}

// What a step leaves on the lane of its node: a sign for what it is, a label for what it changed.
function signs(drawing, step) {
  const { layout, y, height } = drawing;
  if (step.kind === "violation") return violation(drawing, step);
  if (step.node === undefined || drawing.model.head.nodes[step.node] === undefined) return [];
  if (height < HEIGHT_OF_SIGNS && step.kind !== "crash" && step.kind !== "boot") return [];
  const x = layout.node(step.node);
  const at = y(step.step);
  const radius = Math.max(1.4, Math.min(4.5, height / 5));
  const chosen = step.step === drawing.selected ? " chosen" : "";
  // These happen beside the node or on the way to it, and may change its state all the same.
  const isElsewhere = ["lose", "invoke", "return"].includes(step.kind);
  const drawn = isElsewhere ? [] : [sign(step.kind, x, at, radius, chosen)];
  const said = drawing.hasWords ? laneLabel(drawing, step) : "";
  if (said) drawn.push(pill(drawing, step, x, at, said));
  return drawn;
}

function sign(kind, x, y, r, chosen) {
  const name = `sign ${kind}${chosen}`;
  // Paths are told in radii around the middle.
  const path = (...points) => {
    const at = ([letter, right, down]) => `${letter}${x + right * r},${y + down * r}`;
    const closed = points.length > 2 && !points.slice(1).some(([letter]) => letter === "M");
    return svg("path", { class: name, d: points.map(at).join(" ") + (closed ? " z" : "") });
  };
  switch (kind) {
    case "crash":
      return path(["M", -1.7, -1.7], ["L", 1.7, 1.7], ["M", -1.7, 1.7], ["L", 1.7, -1.7]);
    case "boot": return path(["M", -1.4, -1], ["L", 1.4, -1], ["L", 0, 1.5]);
    case "pause": return path(["M", -1, -1.3], ["L", -1, 1.3], ["M", 1, -1.3], ["L", 1, 1.3]);
    case "resume": return path(["M", -1, -1.3], ["L", 1.4, 0], ["L", -1, 1.3]);
    case "timer": return path(["M", 0, -1.4], ["L", 1.4, 0], ["L", 0, 1.4], ["L", -1.4, 0]);
    case "synced":
      return svg("rect", { class: name, x: x - r, y: y - r, width: 2 * r, height: 2 * r });
    default: return svg("circle", { class: name, cx: x, cy: y, r: kind === "tell" ? r * 1.15 : r });
  }
}

// What is said beside the lane: a life's begin and end, and the four keys that a diagram needs.
function laneLabel(drawing, step) {
  const { model } = drawing;
  const said = [];
  if (step.kind === "crash") said.push("crashed");
  if (step.kind === "pause") said.push("paused");
  const changed = (key) => {
    const now = step.state?.[key] === undefined ? null : valueAt(model, step.node, key, step.step);
    return now?.isNew ? readable(now.value) : null;
  };
  const [role, term, commit] = [changed("role"), changed("term"), changed("commit")];
  if (role !== null) said.push(role);
  if (term !== null && term !== "0") said.push(`T${term}`);
  if (commit !== null && commit !== "0") said.push(`✓${commit}`);
  const error = changed("clock error");
  if (error !== null) said.push(`clock ${error}`);
  return said.join(" ");
}

function pill(drawing, step, x, y, said) {
  const { model, layout, height } = drawing;
  const size = Math.max(10, Math.min(12.5, height * 0.44));
  const text = fitted(said, size, layout.nodeLane - 24);
  const life = lifeAt(model, step.node, step.step);
  const isHalt = step.kind === "crash" || step.kind === "pause";
  const kind = isHalt ? "halt" : termClass(model, life.term);
  const width = widthOf(text, size) + 9;
  const group = svg("g", { class: `pill ${kind}` });
  const tall = size + 5;
  group.append(svg("rect", { x: x + 11, y: y - tall / 2, width, height: tall, rx: 4 }));
  const words = svg("text", { x: x + 15.5, y: y + size * 0.36, "font-size": size });
  words.textContent = text;
  group.append(words);
  return group;
}

// As much of a text as there is room for.
function fitted(text, size, room) {
  let shown = text;
  while (shown.length > 2 && widthOf(shown, size) > room) shown = `${shown.slice(0, -2)}…`;
  return shown;
}

function label(x, y, text, name) {
  const made = svg("text", { class: name, x, y });
  made.textContent = text;
  return made;
}

// The end of the story: a line over all lanes.
function violation(drawing, step) {
  const { layout, y } = drawing;
  const at = y(step.step);
  return [
    svg("line", { class: "violation", x1: layout.gutter, x2: layout.end, y1: at, y2: at }),
    svg("circle", { class: "violation-sign", cx: layout.end - 12, cy: at, r: 7 }),
    svg("path", {
      class: "violation-cross",
      d: `M${layout.end - 15},${at - 3} l6,6 m0,-6 l-6,6`,
    }),
  ];
}
