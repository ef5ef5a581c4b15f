// Frame player: one shared frame index for all panels. All frames are decoded once, so that a step only draws.
function mountPlayer(root, data) {
  const last = data.frames.length - 1;
  const GAP = 10;
  let index = 0, playing = null, bitmaps = null, factor = 0, cursor = null, x = () => 0, blocks = [];
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Frame player");
  if (data.note) element(root, "p", { class: "note" }, data.note);

  // A panel shows one of its views (a title with images); buttons switch between views.
  const options = element(root, "div", { class: "controls" });
  const strip = element(root, "div", { class: "panels" });
  const panels = data.panels.map((panel) => {
    const figure = element(strip, "figure");
    const title = element(figure, "figcaption");
    const canvas = element(figure, "canvas", { role: "img" });
    const entry = { views: panel.views, title, canvas, current: 0 };
    if (panel.views.length > 1) {
      choiceControl(options, panel.name, panel.views.map((view, v) => [v, view.name]), 0, (v) => { entry.current = v; layout(); show(index); });
    }
    return entry;
  });
  const frameHeight = Math.max(...data.panels.map((panel) => (panel.latent ? 0 : panel.views[0].height)));
  const frameWidth = Math.max(...data.panels.map((panel) => (panel.latent ? 0 : panel.views[0].width)));
  choiceControl(options, "size", [[0, "fit"], [1, "1×"], [2, "2×"], [3, "3×"]], 0, (value) => { factor = value; layout(); });

  // Pixels stay square: enlarged by a whole factor, or shrunk to fit. Latents take the size of the frames they stand for.
  function layout() {
    const room = (root.clientWidth - 4 - GAP * (panels.length - 1)) / panels.length;
    const scale = Math.min(Math.max(room, 120) / frameWidth, (0.6 * window.innerHeight) / frameHeight);
    const fit = scale >= 1 ? Math.floor(scale) : scale;
    panels.forEach(({ views, title, canvas, current }) => {
      const view = views[current];
      if (canvas.width !== view.width || canvas.height !== view.height) Object.assign(canvas, { width: view.width, height: view.height });
      canvas.setAttribute("aria-label", view.title);
      title.textContent = view.title;
      canvas.style.width = title.style.width = frameWidth * (factor || fit) + "px";
      canvas.style.height = frameHeight * (factor || fit) + "px";
    });
  }

  const controls = element(root, "div", { class: "controls" });
  const button = element(controls, "button", { type: "button", class: "play" }, "▶ Play");
  const range = element(element(controls, "span", { class: "control wide" }), "input",
    { type: "range", min: 0, max: last, step: 1, value: 0, "aria-label": "Frame" });
  const caption = element(root, "p", { class: "caption", "aria-live": "polite" });

  // Plot: curves over the frames, above one block for each latent frame over the frames it stands for.
  const plot = shape(root, "svg", { class: "plot", role: "img", "aria-label": "Values over frames" });
  function drawPlot(width) {
    const LEFT = 44, RIGHT = 8, TOP = 22, PLOT = 92;
    plot.textContent = "";
    x = (i) => LEFT + ((width - LEFT - RIGHT) * (i + 0.5)) / (last + 1);
    const starts = data.frames.flatMap((frame, i) => (i > 0 && frame.chunk !== data.frames[i - 1].chunk ? [i] : []));
    const hasLatents = data.frames.some((frame) => frame.latent !== null);
    let bottom = TOP;
    if (data.curves.length) {
      bottom = TOP + PLOT;
      const values = data.frames.flatMap((frame) => frame.values).filter((value) => value !== null);
      const [low, high] = values.length ? [Math.floor(Math.min(...values)), Math.ceil(Math.max(...values) + 1e-9)] : [0, 1];
      const y = (value) => bottom - (PLOT * (value - low)) / Math.max(high - low, 1);
      for (const tick of [low, (low + high) / 2, high]) {
        shape(plot, "line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) });
        shape(plot, "text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, String(tick));
      }
      const note = starts.length ? "; dashed: a chunk begins" : "";
      shape(plot, "text", { x: LEFT, y: TOP - 9 }, `PSNR in dB, over frames t${note}`);
      data.curves.forEach((curve, c) => {
        let path = "", pen = "M";
        data.frames.forEach((frame, i) => {
          if (frame.values[c] === null) { pen = "M"; return; }
          path += `${pen}${x(i).toFixed(1)} ${y(frame.values[c]).toFixed(1)}`;
          pen = "L";
        });
        shape(plot, "path", { d: path, fill: "none", stroke: curve.colour, "stroke-width": 2.2 });
        if (last === 0 && path) shape(plot, "circle", { cx: x(0), cy: y(data.frames[0].values[c]), r: 4, fill: curve.colour });
      });
    }
    blocks = [];
    if (hasLatents) {
      const top = bottom + 6;
      shape(plot, "text", { x: LEFT - 6, y: top + 12, "text-anchor": "end" }, "latent");
      for (let i = 0; i <= last; ) {
        let stop = i;
        while (stop <= last && data.frames[stop].latent === data.frames[i].latent) stop += 1;
        const place = { x: x(i - 0.5), width: x(stop - 0.5) - x(i - 0.5), y: top, height: 16, rx: 3, fill: data.latentColour };
        blocks.push([data.frames[i].latent, shape(plot, "rect", { class: "latent", ...place })]);
        i = stop;
      }
      bottom = top + 16;
    }
    for (const i of starts) shape(plot, "line", { class: "chunk", x1: x(i - 0.5), x2: x(i - 0.5), y1: TOP, y2: bottom });
    const every = Math.max(1, Math.ceil(((last + 1) * 46) / (width - LEFT - RIGHT)));
    for (let i = 0; i <= last; i += every) {
      shape(plot, "text", { x: x(i), y: bottom + 14, "text-anchor": "middle" }, (i === 0 ? "t = " : "") + data.frames[i].t);
    }
    cursor = shape(plot, "line", { class: "cursor", y1: TOP - 4, y2: bottom + 2 });
    plot.setAttribute("width", width);
    plot.setAttribute("height", bottom + 20);
    plot.onclick = (event) => {
      const place = event.clientX - plot.getBoundingClientRect().left;
      show(Math.floor(((place - LEFT) / (width - LEFT - RIGHT)) * (last + 1)));
    };
  }
  element(root, "p", { class: "help" }, "Keys: ← → one frame, Page Up and Page Down ten, Home and End, space plays. Click in the plot to go to a frame.");

  function show(next) {
    index = Math.min(last, Math.max(0, next));
    const frame = data.frames[index];
    if (bitmaps) {
      panels.forEach(({ canvas, current }, p) => {
        const images = bitmaps[p][current];
        canvas.getContext("2d").drawImage(images[data.panels[p].latent ? frame.latent : index], 0, 0);
      });
    }
    range.value = index;
    range.setAttribute("aria-valuetext", `t = ${frame.t}`);
    caption.textContent = "";
    element(caption, "b", {}, `t = ${frame.t}`);
    if (frame.latent !== null) swatch(caption, data.latentColour, `latent frame ${frame.latent}`);
    data.curves.forEach((curve, c) => {
      const value = frame.values[c];
      swatch(caption, curve.colour, `${curve.name} ${value === null ? "identical" : value.toFixed(2) + " dB"}`);
    });
    cursor?.setAttribute("x1", x(index));
    cursor?.setAttribute("x2", x(index));
    blocks.forEach(([latent, block]) => block.classList.toggle("current", latent === frame.latent));
    root.dataset.frame = frame.t;
  }

  function play(on) {
    clearInterval(playing);
    playing = on ? setInterval(() => show(index === last ? 0 : index + 1), 1000 / data.fps) : null;
    button.textContent = on ? "❚❚ Pause" : "▶ Play";
    caption.setAttribute("aria-live", on ? "off" : "polite");
  }

  const KEYS = {
    ArrowLeft: () => index - 1, ArrowRight: () => index + 1, PageUp: () => index - 10, PageDown: () => index + 10,
    Home: () => 0, End: () => last,
  };
  root.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === " " && event.target.tagName !== "BUTTON") play(!playing);
    else if (event.key in KEYS) { play(false); show(KEYS[event.key]()); }
    else return;
    event.preventDefault();
  });
  button.addEventListener("click", () => play(!playing));
  range.addEventListener("input", () => { play(false); show(Number(range.value)); });
  const unwatch = onWidth(root, (width) => { layout(); drawPlot(width); show(index); });
  layout();
  show(0);

  const ready = decodeAll(data.panels.map((panel) => panel.views.map((view) => view.images))).then((decoded) => {
    bitmaps = decoded;
    show(index);
    root.dataset.ready = "true";
  });
  return { ready, close: () => { play(false); unwatch(); } };
}
