// The whole run in one narrow strip: who leads in what colour, faults, crashes, the violation, what
// was found, and which part is in view.

function drawOverview(canvas, view, first, last) {
  const { model } = view;
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width || !height) return;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const paint = canvas.getContext("2d");
  paint.scale(ratio, ratio);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const y = (step) => (step / Math.max(1, model.steps.length)) * height;
  const mark = (name, from, to, x, wide) => {
    paint.fillStyle = colour(name);
    paint.fillRect(x, y(from), wide, Math.max(2, y(to) - y(from)));
  };
  const wide = 9 / Math.max(1, model.lives.length);
  model.lives.forEach((lives, node) => {
    for (const life of lives) {
      if (life.role !== "leader" || life.status === "down") continue;
      mark(termClass(model, life.term), life.begin, life.end, node * wide, wide);
    }
  });
  for (const fault of model.faults) mark("fault", fault.begin, fault.end, 10, 3);
  for (const at of model.crashes) mark("ink", at, at, 9, 5);
  for (const at of view.hits) mark("found", at, at, 14, 4);
  if (model.violation >= 0) mark("bad", model.violation, model.violation + 1, 0, width);
  paint.strokeStyle = colour("soft");
  paint.lineWidth = 1;
  const tall = Math.max(6, y(last + 1) - y(first));
  paint.strokeRect(0.5, Math.min(y(first), height - tall) + 0.5, width - 1, tall - 1);
  mark("select-edge", view.selected, view.selected, 0, width);
}
