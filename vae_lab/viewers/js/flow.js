// From noise to a clip: one slider along t for both panels, another over the frames. All pictures are decoded once.
function mountFlow(root, data) {
  const lastPoint = data.timesteps.length - 1, lastFrame = data.frames.length - 1;
  const GAP = 10;
  let point = 0, frame = 0, playing = null, bitmaps = null, cursor = null, x = () => 0;
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Flow viewer");
  if (data.note) element(root, "p", { class: "note" }, data.note);

  const strip = element(root, "div", { class: "panels" });
  const canvases = data.panels.map((panel) => {
    const figure = element(strip, "figure");
    const title = element(figure, "figcaption");
    swatch(title, panel.colour, panel.title);
    return element(figure, "canvas", { role: "img", "aria-label": panel.title, width: data.width, height: data.height });
  });

  // Pixels stay square: enlarged by a whole factor, or shrunk to fit.
  function layout() {
    const room = (root.clientWidth - 4 - GAP * (canvases.length - 1)) / canvases.length;
    const scale = Math.min(Math.max(room, 120) / data.width, (0.45 * window.innerHeight) / data.height);
    const factor = scale >= 1 ? Math.floor(scale) : scale;
    for (const canvas of canvases) {
      Object.assign(canvas.style, { width: data.width * factor + "px", height: data.height * factor + "px" });
      canvas.previousSibling.style.width = canvas.style.width;
    }
  }

  function wideSlider(parent, name, last, input) {
    const label = element(parent, "label", { class: "control wide" }, name);
    const range = element(label, "input", { type: "range", min: 0, max: last, step: 1, value: 0, "aria-label": name });
    range.addEventListener("input", () => input(Number(range.value)));
    return range;
  }
  const along = wideSlider(element(root, "div", { class: "controls" }), "from noise to clip", lastPoint, (value) => show(value, frame));
  const controls = element(root, "div", { class: "controls" });
  const button = element(controls, "button", { type: "button", class: "play" }, "▶ Play");
  const over = wideSlider(controls, "frame", lastFrame, (value) => { play(false); show(point, value); });
  const caption = element(root, "p", { class: "caption", "aria-live": "polite" });

  // Plot: how far both panels are from the last point, over the points.
  const plot = shape(root, "svg", { class: "plot", role: "img", "aria-label": "Difference from the result, over the points of the walk" });
  function drawPlot(width) {
    const LEFT = 44, RIGHT = 8, TOP = 22, PLOT = 92, bottom = TOP + PLOT;
    plot.textContent = "";
    x = (i) => LEFT + ((width - LEFT - RIGHT) * (i + 0.5)) / (lastPoint + 1);
    const high = Math.max(1, Math.ceil(Math.max(...data.panels.flatMap((panel) => panel.values))));
    const y = (value) => bottom - (PLOT * value) / high;
    for (const tick of [0, high / 2, high]) {
      shape(plot, "line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) });
      shape(plot, "text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, String(tick));
    }
    shape(plot, "text", { x: LEFT, y: TOP - 9 }, "RMS difference from the result, in levels of 255");
    for (const panel of data.panels) {
      const d = panel.values.map((value, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`).join("");
      shape(plot, "path", { d, fill: "none", stroke: panel.colour, "stroke-width": 2.2 });
    }
    const every = Math.max(1, Math.ceil(((lastPoint + 1) * 56) / (width - LEFT - RIGHT)));
    for (let i = 0; i <= lastPoint; i += every) {
      shape(plot, "text", { x: x(i), y: bottom + 14, "text-anchor": "middle" }, (i === 0 ? "t = " : "") + Math.round(data.timesteps[i]));
    }
    cursor = shape(plot, "line", { class: "cursor", y1: TOP - 4, y2: bottom + 2 });
    plot.setAttribute("width", width);
    plot.setAttribute("height", bottom + 20);
    plot.onclick = (event) => {
      const place = event.clientX - plot.getBoundingClientRect().left;
      show(Math.floor(((place - LEFT) / (width - LEFT - RIGHT)) * (lastPoint + 1)), frame);
    };
  }
  element(root, "p", { class: "help" }, "Keys: ← → along t, Home and End, ↑ ↓ one frame, space plays. Click in the plot to go to a point.");

  function show(nextPoint, nextFrame) {
    point = Math.min(lastPoint, Math.max(0, nextPoint));
    frame = Math.min(lastFrame, Math.max(0, nextFrame));
    if (bitmaps) canvases.forEach((canvas, p) => canvas.getContext("2d").drawImage(bitmaps[p][point][frame], 0, 0));
    const t = Math.round(data.timesteps[point]);
    along.value = point;
    along.setAttribute("aria-valuetext", `t = ${t}`);
    over.value = frame;
    over.setAttribute("aria-valuetext", `frame ${data.frames[frame]}`);
    caption.textContent = "";
    element(caption, "b", {}, `t = ${t}, frame ${data.frames[frame]}`);
    for (const panel of data.panels) swatch(caption, panel.colour, `${panel.values[point].toFixed(1)} from the result`);
    cursor?.setAttribute("x1", x(point));
    cursor?.setAttribute("x2", x(point));
    Object.assign(root.dataset, { point, frame: data.frames[frame] });
  }

  function play(on) {
    clearInterval(playing);
    playing = on ? setInterval(() => show(point, frame === lastFrame ? 0 : frame + 1), 1000 / data.fps) : null;
    button.textContent = on ? "❚❚ Pause" : "▶ Play";
    caption.setAttribute("aria-live", on ? "off" : "polite");
  }

  const KEYS = {
    ArrowLeft: () => show(point - 1, frame), ArrowRight: () => show(point + 1, frame),
    Home: () => show(0, frame), End: () => show(lastPoint, frame),
    ArrowUp: () => { play(false); show(point, frame + 1); }, ArrowDown: () => { play(false); show(point, frame - 1); },
  };
  root.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === " " && event.target.tagName !== "BUTTON") play(!playing);
    else if (event.key in KEYS) KEYS[event.key]();
    else return;
    event.preventDefault();
  });
  button.addEventListener("click", () => play(!playing));
  const unwatch = onWidth(root, (width) => { layout(); drawPlot(width); show(point, frame); });
  layout();
  show(0, 0);

  const ready = decodeAll(data.panels.map((panel) => panel.images)).then((decoded) => {
    bitmaps = decoded;
    show(point, frame);
    root.dataset.ready = "true";
  });
  return { ready, close: () => { play(false); unwatch(); } };
}
