// How things are said: the same words as in the text form of a trace.

// What would be unseen is shown by its number: see `is_unseen` in the module that wrote the page.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

function readable(text) {
  return String(text).replace(UNSEEN, (letter) => `\\u{${letter.codePointAt(0).toString(16)}}`);
}

// Nanoseconds as milliseconds with microseconds, cut off.
function millis(at) {
  const micros = Math.floor(at / 1000);
  return `${Math.floor(micros / 1000)}.${String(micros % 1000).padStart(3, "0")}`;
}

function nodeName(model, place) {
  return nameAt(model.head.nodes, place);
}

function clientName(model, place) {
  return nameAt(model.head.clients, place);
}

function nameAt(names, place) {
  return names[place] === undefined ? "?" : readable(names[place]) || `(${place + 1})`;
}

// Who does what, to whom.
function deed(model, step) {
  const node = nodeName(model, step.node);
  const peer = nodeName(model, step.peer);
  switch (step.kind) {
    case "send": return `${node} → ${peer}`;
    case "receive": return `${node} ← ${peer}`;
    case "lose": return `${peer} ↛ ${node}`;
    case "invoke": return `${clientName(model, step.client)} invokes`;
    case "return": return `${clientName(model, step.client)} returns`;
    case "boot": return `${node} boots`;
    case "crash": return `${node} crashes`;
    case "pause": return `${node} pauses`;
    case "resume": return `${node} resumes`;
    case "timer": return `${node} timer`;
    case "synced": return `${node} synced`;
    case "tell": return `${node} tells`;
    case "fault": return "fault";
    case "heal": return "healed";
    case "violation": return "violation";
    default: return step.node === undefined ? "note" : `${node} note`;
  }
}

// A step in one line, as it is found by the search and spoken by a screen reader.
function sentence(model, step) {
  const again = model.isAgain.has(step.step) ? " (again)" : "";
  const remark = step.kind === "lose" ? " (lost)" : again;
  const state = changes(step);
  return `${deed(model, step)}: ${readable(step.text)}${remark}${state && ` [${state}]`}`;
}

function changes(step) {
  const pairs = Object.entries(step.state ?? {});
  return pairs.map(([key, value]) => `${readable(key)}=${readable(value)}`).join(" ");
}

// An element with a class, a text and children; nothing is ever read as markup.
function element(tag, name, text, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined && text !== null) made.textContent = text;
  made.append(...children);
  return made;
}

// How wide a text is, in the letters of labels. Unit: CSS pixels.
const widths = new Map();
const ruler = document.createElement("canvas").getContext("2d");

function widthOf(text, size) {
  const key = `${size} ${text}`;
  if (!widths.has(key)) {
    if (widths.size > 5000) widths.clear();
    ruler.font = `600 ${size}px ${getComputedStyle(document.body).fontFamily}`;
    widths.set(key, ruler.measureText(text).width);
  }
  return widths.get(key);
}

function byId(id) {
  return document.getElementById(id);
}
