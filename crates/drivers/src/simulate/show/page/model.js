// An index of the trace, made once. All that is drawn is found in it by the number of a step.

// Steps per block of the index of what lasts (messages, faults, operations).
const BLOCK = 128;

// What is told of a node first; other keys follow in the order of the alphabet.
const KEYS_FIRST = ["role", "term", "leader", "commit", "applied", "clock error"];

function readTrace({ head, steps }) {
  const model = {
    head,
    steps,
    last: steps.length - 1,
    isAgain: new Set(),
    violation: steps.findIndex((step) => step.kind === "violation"),
  };
  model.messages = messagesOf(model);
  model.operations = pairsOf(steps, "invoke", "return", (step) => step.operation);
  model.faults = faultsOf(model);
  model.values = valuesOf(head.nodes.length, steps);
  model.keys = keysOf(model.values);
  model.terms = termsOf(steps);
  model.lives = head.nodes.map((_, node) => livesOf(model, node));
  model.timeline = {
    messages: blocksOf(model.messages, model.last),
    operations: blocksOf(model.operations, model.last),
    faults: blocksOf(model.faults, model.last),
  };
  return model;
}

// A message: when it was sent (if it was), and what became of it, maybe more than once.
function messagesOf(model) {
  const byMessage = new Map();
  const found = [];
  for (const step of model.steps) {
    if (step.kind !== "send" && step.kind !== "receive" && step.kind !== "lose") continue;
    const isSend = step.kind === "send";
    let message = step.message === undefined ? undefined : byMessage.get(step.message);
    if (!message) {
      const [from, to] = isSend ? [step.node, step.peer] : [step.peer, step.node];
      message = { from, to, sent: isSend ? step.step : null, ends: [], begin: step.step };
      message.end = step.step;
      found.push(message);
      if (step.message !== undefined) byMessage.set(step.message, message);
    }
    if (isSend) continue;
    const received = message.ends.some((end) => end.kind === "receive");
    if (step.kind === "receive" && received) model.isAgain.add(step.step);
    message.ends.push({ step: step.step, kind: step.kind });
    message.end = step.step;
  }
  // What is still under way in the end is drawn as a stub of a row or two.
  for (const message of found) {
    if (message.ends.length === 0) message.end = Math.min(message.begin + 2, model.last);
  }
  model.messageOf = new Map();
  for (const message of found) {
    if (message.sent !== null) model.messageOf.set(message.sent, message);
    for (const end of message.ends) model.messageOf.set(end.step, message);
  }
  return found;
}

// What begins with one kind of step and ends with another; `end` is the last step if it never does.
function pairsOf(steps, begins, ends, idOf) {
  const open = new Map();
  const found = [];
  for (const step of steps) {
    if (step.kind === begins) {
      const pair = { begin: step.step, end: steps.length - 1, over: null, first: step };
      found.push(pair);
      if (idOf(step) !== undefined) open.set(idOf(step), pair);
    } else if (step.kind === ends && open.has(idOf(step))) {
      const pair = open.get(idOf(step));
      pair.end = step.step;
      pair.over = step.step;
      open.delete(idOf(step));
    }
  }
  setDepths(found, (pair) => pair.first.client);
  return found;
}

// Faults that a `heal` ends. One without a number is over at once.
function faultsOf(model) {
  const faults = pairsOf(model.steps, "fault", "heal", (step) => step.fault);
  const all = model.head.nodes.map((_, node) => node);
  for (const fault of faults) {
    fault.nodes = fault.first.nodes?.length ? fault.first.nodes : all;
    fault.groupOf = groupsIn(fault.first.text, model.head.nodes);
    if (fault.first.fault === undefined) fault.end = fault.over = fault.begin;
  }
  setDepths(faults, () => 0);
  return faults;
}

// The groups of a partition, as its text tells them (`n1 | n2 n3`), by node. A text that tells none
// puts all nodes into one.
function groupsIn(text, names) {
  const groups = new Map();
  text.slice(text.lastIndexOf(":") + 1).split("|").forEach((part, group) => {
    for (const word of part.split(/[\s,{}()]+/)) {
      if (names.includes(word)) groups.set(names.indexOf(word), group);
    }
  });
  return (node) => groups.get(node) ?? 0;
}

// What overlaps is drawn side by side: the smallest depth that is free at the begin.
function setDepths(pairs, placeOf) {
  const busy = new Map();
  for (const pair of pairs) {
    const place = placeOf(pair);
    if (!busy.has(place)) busy.set(place, []);
    const ends = busy.get(place);
    let depth = ends.findIndex((end) => end < pair.begin);
    if (depth < 0) depth = ends.length;
    ends[depth] = pair.end;
    pair.depth = depth;
  }
}

// By node and key: the steps at which it changed, and its values from there on.
function valuesOf(nodes, steps) {
  const values = Array.from({ length: nodes }, () => new Map());
  for (const step of steps) {
    if (step.node === undefined || !step.state) continue;
    for (const [key, value] of Object.entries(step.state)) {
      const known = values[step.node];
      if (!known.has(key)) known.set(key, { steps: [], values: [] });
      known.get(key).steps.push(step.step);
      known.get(key).values.push(value);
    }
  }
  return values;
}

// The place of the last of sorted `numbers` that is not above `number`; -1 if there is none.
function lastAt(numbers, number) {
  let low = 0;
  let high = numbers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] <= number) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

// A value after a step, whether that step changed it, and from what.
function valueAt(model, node, key, step) {
  const known = model.values[node].get(key);
  const at = known ? lastAt(known.steps, step) : -1;
  if (at < 0) return null;
  const old = at > 0 ? known.values[at - 1] : null;
  const isNew = known.steps[at] === step && old !== known.values[at];
  return { value: known.values[at], isNew, old };
}

function keysOf(values) {
  const all = new Set(values.flatMap((known) => [...known.keys()]));
  const first = KEYS_FIRST.filter((key) => all.delete(key));
  return [...first, ...[...all].sort()];
}

// The colour of a term: terms are counted as they appear, and term 0 has none.
function termsOf(steps) {
  const terms = new Map();
  for (const step of steps) {
    const term = step.state?.term;
    if (term !== undefined && term !== "0" && !terms.has(term)) terms.set(term, terms.size);
  }
  return terms;
}

function termClass(model, term) {
  return model.terms.has(term) ? `term-${(model.terms.get(term) % 6) + 1}` : "term-0";
}

const LIFE = { boot: "up", crash: "down", pause: "paused", resume: "up" };

// Stretches of a lane in which a node is up, down or paused, with one role and one term.
function livesOf(model, node) {
  const own = model.steps.filter((step) => step.node === node);
  const firstChange = own.find((step) => step.kind in LIFE);
  let now = { status: firstChange?.kind === "boot" ? "down" : "up", role: "", term: "" };
  const lives = [{ begin: 0, ...now }];
  for (const step of own) {
    const next = {
      status: LIFE[step.kind] ?? now.status,
      role: roleOf(step.state?.role) ?? now.role,
      term: step.state?.term ?? now.term,
    };
    if (next.status === now.status && next.role === now.role && next.term === now.term) continue;
    lives.push({ begin: step.step, ...next });
    now = next;
  }
  lives.forEach((life, at) => { life.end = lives[at + 1]?.begin ?? model.last; });
  lives.begins = lives.map((life) => life.begin);
  return lives;
}

// Who leads is drawn broad, who wants to is drawn hollow, whatever the protocol calls them.
function roleOf(role) {
  if (role === undefined) return undefined;
  if (/leader|primary|coordinator|master/i.test(role)) return "leader";
  return /candidate/i.test(role) ? "candidate" : "";
}

function lifeAt(model, node, step) {
  const lives = model.lives[node];
  return lives[Math.max(0, lastAt(lives.begins, step))];
}

// By block of steps, what is there in it.
function blocksOf(spans, last) {
  const blocks = Array.from({ length: Math.floor(Math.max(last, 0) / BLOCK) + 1 }, () => []);
  for (const span of spans) {
    const end = Math.floor(span.end / BLOCK);
    for (let block = Math.floor(span.begin / BLOCK); block <= end; block += 1) {
      blocks[block].push(span);
    }
  }
  return blocks;
}

// What is there somewhere from step `first` to step `last`, in the order of its begin.
function during(blocks, first, last) {
  const found = new Set();
  const end = Math.min(Math.floor(last / BLOCK), blocks.length - 1);
  for (let block = Math.max(0, Math.floor(first / BLOCK)); block <= end; block += 1) {
    for (const span of blocks[block]) {
      if (span.begin <= last && span.end >= first) found.add(span);
    }
  }
  return found;
}
