"use strict";
// Drawing of the page of page.py: the 3D scene, the image and the error strip. Each is a function of `state`.
// Camera frame: x right, y down, z forward; metres. `series` are skeletons over time; one of them is measured.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const { fps, joints, parents, width: imageWidth, height: imageHeight } = data;
const left = new Set(data.left), bones = parents.flatMap((parent, child) => (parent < 0 ? [] : [[child, parent]]));
const keypoints = unpack(data.keypoints), T = keypoints.length / (2 * joints.length), J = joints.length;
const series = data.series.map((one) => ({
  ...one, pose: unpack(one.pose), projection: unpack(one.projection), root: unpack(one.root),
}));
const sigma = data.sigma && unpack(data.sigma); // m, of each joint of the first series [T J]
const truth = series.find((one) => one.kind === "truth");
const state = {
  t: 0, playing: false, clock: 0, yaw: 0.5, pitch: 0.2, zoom: 1, travel: false, whole: false,
  measured: series[0], unit: truth ? "mm" : "px",
};
// Limbs are drawn by depth. `nearer` (m) is subtracted, so that equal poses do not hide the chosen one.
const STYLES = {
  chosen: { width: 5.5, nearer: 0.1 }, pose: { width: 4, nearer: 0.05 }, truth: { width: 4, nearer: 0.05 },
  hypothesis: { width: 2, nearer: 0 },
};
const VIEWS = { camera: [0, 0], side: [Math.PI / 2, 0], top: [0, Math.PI / 2] };

// Numbers of int16 values in base64; -32768 is NaN.
function unpack({ values, middle, step }) {
  const ints = new Int16Array(Uint8Array.from(atob(values), (c) => c.charCodeAt(0)).buffer);
  return Float32Array.from(ints, (q) => (q === -32768 ? NaN : q * step + middle));
}

function quantile(values, share) {
  const sorted = Float32Array.from(values).filter(Number.isFinite).sort();
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] : 0;
}

// ---- canvases ----
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
const colourOf = (one) => (one.kind === "truth" ? css("--text") : one.colour);

// Clears a canvas at the resolution of the screen; later coordinates are CSS px.
function begin(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.lineCap = context.lineJoin = "round";
  context.font = "12px system-ui, sans-serif";
  return [context, width, height];
}

function line(context, a, b, colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.beginPath();
  context.moveTo(a[0], a[1]);
  context.lineTo(b[0], b[1]);
  context.stroke();
}

// ---- 3D ----
const spaceCanvas = $("space").querySelector("canvas");
const bounds = [false, true].map((travel) => measureScene(travel));

// Middle, size and floor of all series over all frames, without outliers.
function measureScene(travel) {
  const axes = [[], [], []];
  for (const one of series) {
    for (let i = 0; i < one.pose.length; i++) {
      axes[i % 3].push(one.pose[i] + (travel ? one.root[3 * Math.floor(i / (3 * J)) + (i % 3)] : 0));
    }
  }
  const low = axes.map((v) => quantile(v, 0.005)), high = axes.map((v) => quantile(v, 0.995));
  const size = Math.max(...high.map((v, i) => v - low[i]), 0.5);
  return { middle: low.map((v, i) => (v + high[i]) / 2), size, floor: high[1] };
}

// Canvas position of a 3D point: [x px, y px, depth m, px a metre there].
function toCanvas(p, width, height) {
  const { middle, size } = bounds[Number(state.travel)];
  const x = p[0] - middle[0], y = p[1] - middle[1], z = p[2] - middle[2];
  const [cy, sy, cp, sp] = [Math.cos(state.yaw), Math.sin(state.yaw), Math.cos(state.pitch), Math.sin(state.pitch)];
  const x1 = x * cy + z * sy, z1 = z * cy - x * sy, depth = y * sp + z1 * cp, far = 4 * size;
  const scale = ((0.88 * Math.min(width, height - 40)) / size) * state.zoom * (far / Math.max(far + depth, 0.1 * far));
  return [width / 2 + x1 * scale, height / 2 + 10 + (y * cp - z1 * sp) * scale, depth, scale];
}

function joint(one, j) {
  const at = 3 * (state.t * J + j), root = 3 * state.t;
  return [0, 1, 2].map((c) => one.pose[at + c] + (state.travel ? one.root[root + c] : 0));
}

function drawSpace() {
  const [context, width, height] = begin(spaceCanvas);
  const { middle, size, floor } = bounds[Number(state.travel)];
  const cell = size > 4 ? 1 : 0.5, cells = Math.ceil(size / 2 / cell) + 1;
  const [ox, oz] = [middle[0], middle[2]].map((v) => cell * Math.round(v / cell));
  const ground = (i, k) => toCanvas([ox + i * cell, floor, oz + k * cell], width, height);
  for (let i = -cells; i <= cells; i++) {
    line(context, ground(i, -cells), ground(i, cells), css("--grid"), 1);
    line(context, ground(-cells, i), ground(cells, i), css("--grid"), 1);
  }
  context.fillStyle = css("--quiet");
  context.textAlign = "center";
  const towards = ground(0, -cells);
  const x = Math.min(Math.max(towards[0], 40), width - 40);
  context.fillText("camera side", x, Math.min(towards[1] + 14, height - 28));
  context.textAlign = "left";
  context.fillText(`grid ${cell} m; hollow limbs are the subject's left`, 10, height - 9);
  const strokes = [];
  for (const one of series.filter((s) => s.shown)) {
    const points = joints.map((_, j) => toCanvas(joint(one, j), width, height));
    if (one === series[0] && sigma) points.forEach((point, j) => drawHaze(context, point, sigma[state.t * J + j]));
    const style = { ...(one === series[0] ? STYLES.chosen : STYLES[one.kind]), colour: colourOf(one) };
    for (const [child, parent] of bones) {
      const [a, b] = [points[child], points[parent]], depth = (a[2] + b[2]) / 2 - style.nearer;
      const hollow = style.nearer > 0 && left.has(child);
      if (Number.isFinite(a[0] + b[0])) strokes.push({ ...style, a, b, depth, hollow });
    }
  }
  strokes.sort((p, q) => q.depth - p.depth);
  for (const s of strokes) {
    line(context, s.a, s.b, s.colour, s.width);
    if (s.hollow) line(context, s.a, s.b, css("--panel"), s.width * 0.4);
  }
}

// A disc that fades to nothing at twice the expected error (m) around a joint of the first series.
function drawHaze(context, [x, y, , scale], expected) {
  const radius = 2 * expected * scale;
  if (!Number.isFinite(x + y + radius) || radius < 1) return;
  const fade = context.createRadialGradient(x, y, 0, x, y, radius), colour = colourOf(series[0]);
  fade.addColorStop(0, `${colour}66`);
  fade.addColorStop(1, `${colour}00`);
  context.fillStyle = fade;
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.fill();
}

// ---- the image ----
const imageCanvas = $("image").querySelector("canvas");
const fromHip = keypoints.map((v, i) => Math.abs(v - keypoints[2 * J * Math.floor(i / (2 * J)) + (i % 2)]));
const reach = quantile(fromHip, 0.995) || imageWidth / 2;
const pictures = data.pictures.map(([frame, code]) => {
  const image = new Image();
  image.src = `data:image/jpeg;base64,${code}`;
  image.onload = () => redraw();
  return { t: frame - data.first_frame, image };
});
let lastHip = [imageWidth / 2, imageHeight / 2];

function drawImage() {
  const [context, width, height] = begin(imageCanvas);
  const hip = keypoints.subarray(2 * J * state.t, 2 * J * state.t + 2);
  if (Number.isFinite(hip[0] + hip[1])) lastHip = hip;
  const whole = Math.min((width - 16) / imageWidth, (height - 60) / imageHeight);
  const fit = state.whole ? whole : Math.min(width, height - 20) / (2.3 * reach);
  const [cx, cy] = state.whole ? [imageWidth / 2, imageHeight / 2] : lastHip;
  const place = (x, y) => [width / 2 + (x - cx) * fit, height / 2 + (y - cy) * fit + 4];
  const [corner, opposite] = [place(0, 0), place(imageWidth, imageHeight)];
  context.strokeStyle = css("--line");
  context.lineWidth = 1;
  context.strokeRect(corner[0], corner[1], opposite[0] - corner[0], opposite[1] - corner[1]);
  const shown = pictures.reduce((a, b) => (Math.abs(b.t - state.t) < Math.abs(a.t - state.t) ? b : a), { t: Infinity });
  if (shown.image && shown.image.complete) {
    context.globalAlpha = 0.8;
    context.drawImage(shown.image, corner[0], corner[1], opposite[0] - corner[0], opposite[1] - corner[1]);
    context.globalAlpha = 1;
  }
  const at = (values, j) => place(values[2 * (state.t * J + j)], values[2 * (state.t * J + j) + 1]);
  const size = state.whole ? 2.5 : 4.5;
  const layers = [[keypoints, css("--quiet"), size + 1.5], [state.measured.projection, colourOf(state.measured), 2]];
  for (const [points, colour, thick] of layers) {
    for (const [child, parent] of bones) line(context, at(points, child), at(points, parent), colour, thick);
  }
  for (let j = 0; j < J; j++) {
    const [x, y] = at(keypoints, j);
    if (!Number.isFinite(x + y)) continue;
    context.fillStyle = css("--panel");
    context.strokeStyle = css("--text");
    context.lineWidth = 1.4;
    context.beginPath();
    context.arc(x, y, size, 0, 7);
    context.fill();
    context.stroke();
  }
  const behind = shown.image ? `; behind: frame ${shown.t + data.first_frame}` : "";
  const caption = data.valid[state.t] ? `grey: 2D input; coloured: reprojection${behind}` : "nobody detected in this frame";
  context.fillStyle = css("--panel");
  context.globalAlpha = 0.8;
  context.fillRect(4, height - 22, context.measureText(caption).width + 12, 19);
  context.globalAlpha = 1;
  context.fillStyle = css("--quiet");
  context.fillText(caption, 10, height - 9);
}

// ---- error strip ----
const ROWS = [
  ["trunk", [0, 7, 8, 9, 10]], ["left arm", [11, 12, 13]], ["right arm", [14, 15, 16]], ["left leg", [4, 5, 6]],
  ["right leg", [1, 2, 3]],
];
const COLOURS = [[13, 8, 60], [91, 14, 140], [173, 41, 128], [232, 95, 79], [252, 176, 55], [250, 247, 160]];
const LABELS = 72, GAP = 3;
const heatCanvas = $("heat").querySelector("canvas"), heatImage = document.createElement("canvas");
let errors = new Float32Array(0), highest = 1;

// Error of each joint in each frame [T J]: distance to the truth in mm, from projection to keypoints in px, or what the
// base expects in mm.
const UNITS = { mm: "mm", px: "px", expected: "mm" };
function errorsOf(one, unit) {
  if (unit === "expected") return sigma.map((metres) => 1000 * metres);
  const [a, b, axes, scale] = unit === "mm" ? [one.pose, truth.pose, 3, 1000] : [one.projection, keypoints, 2, 1];
  return Float32Array.from({ length: T * J }, (_, i) => {
    if (unit === "px" && !data.valid[Math.floor(i / J)]) return NaN;
    let sum = 0;
    for (let c = 0; c < axes; c++) sum += (a[axes * i + c] - b[axes * i + c]) ** 2;
    return scale * Math.sqrt(sum);
  });
}

function mean(values, t) {
  const frame = values.subarray(t * J, (t + 1) * J);
  return frame.reduce((sum, v) => sum + v, 0) / J;
}

function ramp(share) {
  const x = Math.min(Math.max(share, 0), 1) * (COLOURS.length - 1), i = Math.min(Math.floor(x), COLOURS.length - 2);
  return COLOURS[i].map((v, c) => v + (x - i) * (COLOURS[i + 1][c] - v));
}

function paintHeat() {
  errors = errorsOf(state.measured, state.unit);
  const high = Math.max(quantile(errors, 0.98), 1e-3), power = 10 ** Math.floor(Math.log10(high));
  highest = power * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((v) => v * power >= high);
  heatImage.width = T;
  heatImage.height = J;
  const context = heatImage.getContext("2d"), pixels = context.createImageData(T, J);
  ROWS.flatMap(([, rows]) => rows).forEach((j, row) => {
    for (let t = 0; t < T; t++) {
      const error = errors[t * J + j];
      pixels.data.set(Number.isFinite(error) ? [...ramp(error / highest), 255] : [0, 0, 0, 0], 4 * (row * T + t));
    }
  });
  context.putImageData(pixels, 0, 0);
  const stops = COLOURS.map((c) => `rgb(${c})`).join(", ");
  $("scale").querySelector("i").style.background = `linear-gradient(90deg, ${stops})`;
  $("scale").lastElementChild.textContent = `${Number(highest.toPrecision(2))} ${UNITS[state.unit]} or more`;
}

function drawHeat() {
  const [context, width, height] = begin(heatCanvas);
  const row = (height - GAP * (ROWS.length - 1)) / J, across = width - LABELS;
  context.imageSmoothingEnabled = false;
  context.textBaseline = "middle";
  let y = 0, first = 0;
  for (const [name, rows] of ROWS) {
    context.fillStyle = css("--quiet");
    context.fillText(name, 0, y + (row * rows.length) / 2);
    context.drawImage(heatImage, 0, first, T, rows.length, LABELS, y, across, row * rows.length);
    first += rows.length;
    y += row * rows.length + GAP;
  }
  context.fillStyle = css("--alarm");
  for (const [from, to] of data.doubts) {
    const left = LABELS + ((from - data.first_frame) / T) * across;
    context.fillRect(left, 0, ((to - from + 1) / T) * across, 4);
  }
  const x = LABELS + ((state.t + 0.5) / T) * across;
  line(context, [x, 0], [x, height], css("--panel"), 5);
  line(context, [x, 0], [x, height], css("--text"), 2);
}

// [Frame, joint] under the pointer; the joint is undefined between groups.
function underPointer(event) {
  const box = heatCanvas.getBoundingClientRect(), row = (box.height - GAP * (ROWS.length - 1)) / J;
  const t = Math.floor(((event.clientX - box.left - LABELS) / (box.width - LABELS)) * T);
  let y = event.clientY - box.top, j;
  for (const [, rows] of ROWS) {
    if (y >= 0 && y < row * rows.length) j = rows[Math.floor(y / row)];
    y -= row * rows.length + GAP;
  }
  return [Math.min(Math.max(t, 0), T - 1), j];
}
