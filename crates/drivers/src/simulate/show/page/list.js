// The rows: number, time and words of the steps in view, each beside what is drawn of it; and the
// names of the lanes above them.

// Steps that are told even where rows are too low for all words.
const LOUD = new Set(["crash", "fault", "heal", "violation", "pause", "boot"]);

const LOW_ROWS_APART = 15;

function drawRows(root, view, first, last) {
  const rows = [];
  let free = -Infinity;
  for (let at = first; at <= last; at += 1) {
    const isSelected = at === view.selected;
    const isLow = view.height < HEIGHT_OF_WORDS;
    const y = at * view.height;
    const isLoud = LOUD.has(view.model.steps[at].kind) || view.hits.has(at);
    if (isLow && !isSelected && !(isLoud && y >= free)) continue;
    const isBeside = Math.abs(at - view.selected) * view.height < LOW_ROWS_APART;
    if (isLow && !isSelected && isBeside) continue;
    rows.push(row(view, view.model.steps[at], isLow));
    if (!isSelected) free = y + LOW_ROWS_APART;
  }
  root.replaceChildren(...rows);
}

function row(view, step, isLow) {
  const { model, layout, height, selected } = view;
  const isSelected = step.step === selected;
  const hit = view.hits.has(step.step) ? " hit" : "";
  const made = element("div", `row ${step.kind}${isSelected ? " selected" : ""}${hit}`);
  made.id = `step-${step.step}`;
  made.dataset.step = step.step;
  made.setAttribute("role", "option");
  made.setAttribute("aria-selected", isSelected);
  made.setAttribute("aria-posinset", step.step + 1);
  made.setAttribute("aria-setsize", model.steps.length);
  const tall = Math.max(height, isLow ? LOW_ROWS_APART : 0);
  made.style.top = `${(step.step + 0.5) * height - tall / 2}px`;
  made.style.height = `${tall}px`;
  made.style.lineHeight = `${tall}px`;
  made.style.fontSize = `${Math.max(11, Math.min(19, height * 0.5))}px`;
  const before = step.step > 0 ? model.steps[step.step - 1].at : -1;
  const when = element("span", `when${before === step.at ? " same" : ""}`, millis(step.at));
  const words = element("span", "words");
  words.style.left = `${layout.end + 14}px`;
  words.append(...rowWords(view, step));
  words.title = sentence(model, step);
  const gutter = element("span", "gutter", null, element("span", "number", step.step), when);
  gutter.style.width = `${layout.gutter - 12}px`;
  made.append(gutter, words);
  return made;
}

function rowWords(view, step) {
  const { model } = view;
  const said = [
    element("span", "deed", deed(model, step)),
    element("span", "text", null, ...marked(readable(step.text), view.query)),
  ];
  if (model.isAgain.has(step.step)) said.push(element("span", "again", "again"));
  const changed = changes(step);
  if (changed) said.push(element("span", "changed", null, ...marked(`[${changed}]`, view.query)));
  return said;
}

// A text in pieces, with what was searched for in `mark`.
function marked(text, query) {
  if (!query) return [text];
  const pieces = [];
  const low = text.toLowerCase();
  let from = 0;
  for (let at = low.indexOf(query); at >= 0; at = low.indexOf(query, from)) {
    // A letter may have another length in lower case; then nothing is marked.
    if (low.length !== text.length) return [text];
    pieces.push(text.slice(from, at), element("mark", "", text.slice(at, at + query.length)));
    from = at + query.length;
  }
  pieces.push(text.slice(from));
  return pieces;
}

// The heads of the lanes tell of the selected step.
function drawLanes(root, view) {
  const { model, layout, selected } = view;
  const heads = [];
  const put = (x, width, made) => {
    made.style.left = `${x}px`;
    made.style.width = `${width}px`;
    heads.push(made);
  };
  layout.clients.forEach((at) => {
    const made = element("div", "lane-head client", null, element("b", "", clientName(model, at)));
    put(layout.client(at) - layout.clientLane / 2, layout.clientLane, made);
  });
  model.head.nodes.forEach((_, at) => {
    const life = lifeAt(model, at, selected);
    const name = `lane-head node ${life.status} ${life.role} ${termClass(model, life.term)}`;
    const made = element("div", name, null,
      element("div", "", null, element("b", "", nodeName(model, at)),
        element("i", "", headNumbers(model, at, selected))),
      element("span", "", headWords(model, at, life, selected)));
    put(layout.node(at) - 22, layout.nodeLane - 4, made);
  });
  const title = element("div", "lane-head words-head", "What happens");
  put(layout.end + 14, 200, title);
  const gutter = element("div", "lane-head gutter-head", null,
    element("span", "", "step"), element("span", "", "ms"));
  put(0, layout.gutter - 12, gutter);
  root.replaceChildren(...heads);
}

function headNumbers(model, node, step) {
  const value = (key, mark) => {
    const now = valueAt(model, node, key, step);
    return now ? [`${mark}${readable(now.value)}`] : [];
  };
  return [...value("term", "T"), ...value("commit", "✓")].join(" ");
}

function headWords(model, node, life, step) {
  if (life.status === "down") return "✕ down";
  const said = life.status === "paused" ? ["‖ paused"] : [];
  const role = valueAt(model, node, "role", step);
  if (role) said.push(`${life.role === "leader" ? "★ " : ""}${readable(role.value)}`);
  return said.join(" ");
}
