// Interaction of the page: time, controls, pointers and keys change `state` and request one redraw.
let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame((now) => {
    waiting = false;
    if (state.playing) {
      // `now` can be earlier than the click.
      const seconds = Math.min(Math.max(now - state.then, 0) / 1000, 0.5);
      state.clock = (state.clock + seconds * fps * Number($("speed").value)) % T;
      state.then = now;
      state.t = Math.floor(state.clock);
      redraw();
    }
    draw();
  });
}

function draw() {
  const seconds = (t) => (t / fps).toFixed(2), number = data.first_frame + state.t;
  $("frame").value = state.t;
  $("frame").setAttribute("aria-valuetext", `frame ${number}, ${seconds(state.t)} seconds`);
  $("clock").textContent = `frame ${number} · ${seconds(state.t)} / ${seconds(T)} s`;
  const parts = [`${state.measured.name}:`];
  if (truth && state.measured !== truth) parts.push(`MPJPE ${mean(state.mm, state.t).toFixed(1)} mm,`);
  parts.push(data.valid[state.t] ? `reprojection ${mean(state.px, state.t).toFixed(1)} px` : "not detected here");
  if (sigma && state.measured === series[0]) parts.push(`· expected error ${(1000 * mean(sigma, state.t)).toFixed(0)} mm`);
  const doubts = data.doubts.filter(([first, last]) => first <= number && number <= last);
  if (doubts.length) parts.push(`· not trusted: ${doubts.map(([, , why]) => why).join("; ")}`);
  $("numbers").textContent = parts.join(" ");
  drawSpace();
  drawImage();
  drawHeat();
}

function seek(t) {
  state.t = state.clock = Math.min(Math.max(Math.round(t), 0), T - 1);
  redraw();
}

function play(on) {
  state.playing = on;
  state.clock = state.t;
  state.then = performance.now();
  $("play").textContent = on ? "Pause" : "Play";
  $("play").setAttribute("aria-pressed", String(on));
  redraw();
}

function turn(yaw, pitch, zoom = 1) {
  state.yaw += yaw;
  state.pitch = Math.min(Math.max(state.pitch + pitch, -Math.PI / 2), Math.PI / 2);
  state.zoom = Math.min(Math.max(state.zoom * zoom, 0.3), 8);
  redraw();
}

let viewNumber = -1;
function view(name) {
  [state.yaw, state.pitch] = VIEWS[name];
  state.zoom = 1;
  viewNumber = Object.keys(VIEWS).indexOf(name);
  redraw();
}

function measure() {
  state.measured = series[Number($("measured").value)];
  // The truth has no 3D error, and the base states the expected error of the first series alone.
  const absent = { mm: state.measured === truth, expected: state.measured !== series[0] };
  $("measure").querySelectorAll("option").forEach((option) => (option.disabled = absent[option.value]));
  if (absent[$("measure").value]) $("measure").value = "px";
  state.unit = $("measure").value;
  state.px = errorsOf(state.measured, "px");
  if (truth) state.mm = errorsOf(state.measured, "mm");
  paintHeat();
  redraw();
}

// ---- controls ----
const toggles = [];
function addToggle(name, members) {
  const [label, box, swatch] = ["label", "input", "span"].map((tag) => document.createElement(tag));
  box.type = "checkbox";
  box.checked = members[0].shown;
  box.addEventListener("change", () => {
    members.forEach((one) => (one.shown = box.checked));
    redraw();
  });
  swatch.className = "swatch";
  for (const one of members) {
    const part = document.createElement("i");
    part.style.background = one.kind === "truth" ? "var(--text)" : one.colour;
    swatch.append(part);
  }
  label.append(box, swatch, document.createTextNode(name));
  toggles.push(box);
  if (toggles.length < 10) {
    const key = document.createElement("kbd");
    key.textContent = toggles.length;
    label.append(key);
  }
  $("shown").append(label);
}
const hypotheses = series.filter((one) => one.kind === "hypothesis");
for (const one of series) {
  if (one.kind !== "hypothesis") addToggle(one.name, [one]);
  else if (one === hypotheses[0]) addToggle(`${hypotheses.length} hypotheses`, hypotheses);
}
series.forEach((one, i) => $("measured").append(new Option(one.name, i)));
if (truth) $("measure").append(new Option("3D error", "mm"));
$("measure").append(new Option("reprojection", "px"));
if (sigma) $("measure").append(new Option("expected 3D error", "expected"));
$("frame").max = T - 1;

$("play").addEventListener("click", () => play(!state.playing));
$("frame").addEventListener("input", () => seek(Number($("frame").value)));
$("measured").addEventListener("change", measure);
$("measure").addEventListener("change", measure);
for (const name of ["travel", "whole"]) {
  $(name).addEventListener("change", () => {
    state[name] = $(name).checked;
    redraw();
  });
}
for (const button of document.querySelectorAll("[data-view]")) {
  button.addEventListener("click", () => view(button.dataset.view));
}

const fingers = new Map();
const spread = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
spaceCanvas.addEventListener("pointerdown", (event) => {
  spaceCanvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
});
spaceCanvas.addEventListener("pointermove", (event) => {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  const apart = fingers.size > 1 ? spread() : 0;
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
  if (fingers.size === 1) turn((before[0] - event.clientX) * 0.01, (event.clientY - before[1]) * 0.01);
  else if (fingers.size === 2 && apart > 0) turn(0, 0, spread() / apart);
});
for (const end of ["pointerup", "pointercancel"]) {
  spaceCanvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
}
spaceCanvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  turn(0, 0, Math.exp(-event.deltaY * 0.001));
}, { passive: false });

heatCanvas.addEventListener("pointerdown", (event) => {
  heatCanvas.setPointerCapture(event.pointerId);
  seek(underPointer(event)[0]);
});
heatCanvas.addEventListener("pointermove", (event) => {
  const [t, j] = underPointer(event);
  if (event.buttons) seek(t);
  const error = errors[t * J + j], value = Number.isFinite(error) ? `${error.toFixed(1)} ${UNITS[state.unit]}` : "none";
  $("reading").textContent = j === undefined ? "" : `${joints[j]}, frame ${data.first_frame + t}: ${value}`;
});
heatCanvas.addEventListener("pointerleave", () => ($("reading").textContent = ""));

const press = (box) => box && box.click();
const KEYS = {
  " ": () => play(!state.playing), Home: () => seek(0), End: () => seek(T - 1),
  ArrowLeft: () => seek(state.t - 1), ArrowRight: () => seek(state.t + 1),
  "+": () => turn(0, 0, 1.15), "=": () => turn(0, 0, 1.15), "-": () => turn(0, 0, 1 / 1.15),
  v: () => view(Object.keys(VIEWS)[(viewNumber + 1) % 3]), t: () => press($("travel")), i: () => press($("whole")),
};
const ORBIT = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
document.addEventListener("keydown", (event) => {
  const { target, key } = event, isControl = target.matches("button, summary, input[type=checkbox]");
  if (event.ctrlKey || event.metaKey || event.altKey || target.matches("select") || (key === " " && isControl)) return;
  const act = KEYS[key.length > 1 ? key : key.toLowerCase()];
  if (event.shiftKey && ORBIT[key]) turn(...ORBIT[key]);
  else if (/^[1-9]$/.test(key)) press(toggles[key - 1]);
  else if (act) act();
  else return;
  event.preventDefault();
});

new ResizeObserver(redraw).observe(document.body);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
measure();
