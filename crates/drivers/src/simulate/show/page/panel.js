// The panel: the selected step, what is under way at it, and the state of each node after it.

function drawPanel(view) {
  const { model, selected } = view;
  const step = model.steps[selected];
  if (!step) return;
  const since = selected > 0 ? step.at - model.steps[selected - 1].at : 0;
  byId("where").replaceChildren(
    element("b", "", `Step ${step.step}`),
    element("span", "", ` of ${model.last}`),
    element("span", "time", `${millis(step.at)} ms`),
    element("span", "since", since > 0 ? `+${millis(since)}` : "same time"));
  byId("what").className = step.kind;
  byId("what").replaceChildren(
    element("span", "deed", deed(model, step)),
    element("span", "text", readable(step.text)));
  byId("related").replaceChildren(...related(model, step).map(([what, at]) => {
    const made = element("button", "link", `${what}: step ${at}`);
    made.type = "button";
    made.dataset.step = at;
    return made;
  }));
  drawNow(byId("now"), model, selected);
  drawState(byId("state"), model, selected);
}

// The steps that this one is paired with.
function related(model, step) {
  const found = [];
  const message = model.messageOf.get(step.step);
  if (message) {
    if (message.sent !== null && message.sent !== step.step) found.push(["sent", message.sent]);
    for (const end of message.ends) {
      const received = model.isAgain.has(end.step) ? "again" : "received";
      const what = end.kind === "lose" ? "lost" : received;
      if (end.step !== step.step) found.push([what, end.step]);
    }
  }
  const pairs = [
    [model.timeline.operations, "invoked", "returned"],
    [model.timeline.faults, "began", "healed"],
  ];
  for (const [blocks, began, ended] of pairs) {
    for (const pair of during(blocks, step.step, step.step)) {
      if (pair.begin === step.step && pair.over !== null && pair.over !== step.step) {
        found.push([ended, pair.over]);
      }
      if (pair.over === step.step && pair.begin !== step.step) found.push([began, pair.begin]);
    }
  }
  return found;
}

// Faults in force and operations that have not returned.
function drawNow(root, model, selected) {
  const lines = [];
  const add = (name, what, text, at) => {
    const link = element("button", "link", `since step ${at}`);
    link.type = "button";
    link.dataset.step = at;
    const words = element("span", "", readable(text));
    lines.push(element("li", name, null, element("b", "", what), " ", words, " ", link));
  };
  const isOn = (pair) => pair.over === null || pair.over > selected;
  for (const fault of during(model.timeline.faults, selected, selected)) {
    if (isOn(fault)) add("fault", "fault", fault.first.text, fault.begin);
  }
  for (const operation of during(model.timeline.operations, selected, selected)) {
    const client = clientName(model, operation.first.client);
    if (isOn(operation)) add("operation", client, operation.first.text, operation.begin);
  }
  const list = element("ul", "", null, ...lines);
  root.replaceChildren(element("h2", "", "Under way"), list);
  root.hidden = lines.length === 0;
}

function drawState(table, model, selected) {
  const head = element("tr", "", null, element("td", "", ""));
  const status = element("tr", "status", null, header("", "row"));
  model.head.nodes.forEach((_, node) => {
    const life = lifeAt(model, node, selected);
    head.append(header(nodeName(model, node), "col", termClass(model, life.term)));
    const changed = model.steps[selected].node === node &&
      model.steps[selected].kind in LIFE ? "new" : "";
    status.append(element("td", `${life.status} ${changed}`, life.status));
  });
  const rows = model.keys.map((key) => {
    const made = element("tr", "", null, header(readable(key), "row"));
    made.dataset.key = key;
    model.head.nodes.forEach((_, node) => made.append(cell(model, node, key, selected)));
    return made;
  });
  table.replaceChildren(
    element("thead", "", null, head), element("tbody", "", null, status, ...rows));
}

function shown(value) {
  return readable(value) || "(empty)";
}

function header(text, scope, name) {
  const made = element("th", name ?? "", text);
  made.scope = scope;
  return made;
}

function cell(model, node, key, selected) {
  const now = valueAt(model, node, key, selected);
  const isDown = lifeAt(model, node, selected).status === "down" ? "down" : "";
  const made = element("td", `${isDown}${now?.isNew ? " new" : ""}`);
  made.dataset.node = node;
  if (!now) {
    made.append(element("span", "unknown", "–"));
    return made;
  }
  if (now.isNew && now.old !== null) {
    made.append(element("del", "", shown(now.old)), " ");
  }
  made.append(element(now.isNew ? "ins" : "span", now.value ? "" : "unknown", shown(now.value)));
  return made;
}
