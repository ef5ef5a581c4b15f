// Frame player: one shared frame index for all panels. All frames are decoded once, so that a step only draws.
function mountPlayer(root, data) {
  const SVG = "http://www.w3.org/2000/svg";
  const last = data.frames.length - 1;
  let index = 0;
  let playing = null;

  function element(parent, name, attributes = {}, text = "") {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.textContent = text;
    parent.append(node);
    return node;
  }

  function shape(parent, name, attributes, text = "") {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.textContent = text;
    parent.append(node);
    return node;
  }

  // Panels share the width; each is scaled by a whole factor where it is enlarged, so pixels stay square and equal.
  const strip = element(root, "div", { class: "panels" });
  const canvases = data.panels.map((panel) => {
    const figure = element(strip, "figure");
    element(figure, "figcaption", {}, panel.title);
    return element(figure, "canvas", {
      width: panel.width, height: panel.height, role: "img", "aria-label": panel.title,
    });
  });
  function layout() {
    const room = (root.clientWidth - 10 * (canvases.length - 1)) / canvases.length;
    canvases.forEach((canvas) => {
      const factor = room >= canvas.width ? Math.floor(room / canvas.width) : Math.max(room, 150) / canvas.width;
      canvas.style.width = canvas.width * factor + "px";
      canvas.style.height = canvas.height * factor + "px";
    });
  }

  const controls = element(root, "div", { class: "controls" });
  const button = element(controls, "button", { type: "button" }, "▶ Play");
  const slider = element(controls, "input", { type: "range", min: 0, max: last, step: 1, value: 0, "aria-label": "Frame" });
  const caption = element(root, "p", { class: "caption", "aria-live": "polite" });

  // Plot: curves over the frames, above one block for each latent frame over the frames it stands for.
  const WIDTH = 1160, LEFT = 44, RIGHT = 8, TOP = 26, PLOT = 120;
  const x = (i) => LEFT + ((WIDTH - LEFT - RIGHT) * (i + 0.5)) / (last + 1);
  const chunked = data.frames.some((frame, i) => i > 0 && frame.chunk !== data.frames[i - 1].chunk);
  const hasLatents = data.frames.some((frame) => frame.latent !== null);
  const height = TOP + (data.curves.length ? PLOT : 0) + (hasLatents ? 26 : 0) + 20;
  const plot = shape(root, "svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": "Values over frames" });
  let bottom = TOP;
  if (data.curves.length) {
    bottom = TOP + PLOT;
    const values = data.frames.flatMap((frame) => frame.values).filter((value) => value !== null);
    const [low, high] = values.length ? [Math.floor(Math.min(...values)), Math.ceil(Math.max(...values) + 1e-9)] : [0, 1];
    const y = (value) => bottom - (PLOT * (value - low)) / Math.max(high - low, 1);
    for (const tick of [low, (low + high) / 2, high]) {
      shape(plot, "line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) });
      shape(plot, "text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, String(tick));
    }
    shape(plot, "text", { x: LEFT, y: TOP - 12 }, `PSNR in ${data.curves[0].unit}, over frames t` + (chunked ? "; dashed: a chunk begins" : ""));
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
  const blocks = [];
  if (hasLatents) {
    const top = bottom + 8;
    shape(plot, "text", { x: LEFT - 6, y: top + 12, "text-anchor": "end" }, "latent");
    for (let i = 0; i <= last; ) {
      let stop = i;
      while (stop <= last && data.frames[stop].latent === data.frames[i].latent) stop += 1;
      const block = shape(plot, "rect", {
        class: "latent", x: x(i - 0.5), width: x(stop - 0.5) - x(i - 0.5), y: top, height: 16, rx: 3, fill: data.latentColour,
      });
      blocks.push([data.frames[i].latent, block]);
      i = stop;
    }
    bottom = top + 16;
  }
  data.frames.forEach((frame, i) => {
    if (i > 0 && frame.chunk !== data.frames[i - 1].chunk) {
      shape(plot, "line", { class: "chunk", x1: x(i - 0.5), x2: x(i - 0.5), y1: TOP, y2: bottom });
    }
  });
  const every = Math.max(1, Math.ceil((last + 1) / 18));
  for (let i = 0; i <= last; i += every) {
    shape(plot, "text", { x: x(i), y: bottom + 15, "text-anchor": "middle" }, (i === 0 ? "t = " : "") + data.frames[i].t);
  }
  const cursor = shape(plot, "line", { class: "cursor", y1: TOP - 4, y2: bottom + 2 });
  element(root, "p", { class: "help" }, "Keys: ← → one frame, Page Up and Page Down ten, Home and End, space plays. Click in the plot to go to a frame.");

  let bitmaps = null;
  function show(next) {
    index = Math.min(last, Math.max(0, next));
    const frame = data.frames[index];
    if (bitmaps) canvases.forEach((canvas, p) => canvas.getContext("2d").drawImage(bitmaps[p][index], 0, 0));
    slider.value = index;
    slider.setAttribute("aria-valuetext", `t = ${frame.t}`);
    caption.textContent = "";
    element(caption, "b", {}, `t = ${frame.t}`);
    if (frame.latent !== null) {
      element(caption, "span", { class: "swatch", style: `background:${data.latentColour}` });
      caption.append(`latent frame ${frame.latent}`);
    }
    data.curves.forEach((curve, c) => {
      const value = frame.values[c];
      element(caption, "span", { class: "swatch", style: `background:${curve.colour}` });
      caption.append(`${curve.name} ${value === null ? "identical" : value.toFixed(2) + " " + curve.unit}`);
    });
    cursor.setAttribute("x1", x(index));
    cursor.setAttribute("x2", x(index));
    blocks.forEach(([latent, block]) => block.classList.toggle("current", latent === frame.latent));
    root.dataset.frame = frame.t;
  }

  function play(on) {
    clearInterval(playing);
    playing = on ? setInterval(() => show(index === last ? 0 : index + 1), 1000 / data.fps) : null;
    button.textContent = on ? "❚❚ Pause" : "▶ Play";
  }

  const KEYS = {
    ArrowLeft: () => index - 1, ArrowRight: () => index + 1, PageUp: () => index - 10, PageDown: () => index + 10,
    Home: () => 0, End: () => last,
  };
  root.addEventListener("keydown", (event) => {
    if (event.key === " " && event.target !== button) play(!playing);
    else if (event.key in KEYS && !event.altKey && !event.ctrlKey && !event.metaKey) { play(false); show(KEYS[event.key]()); }
    else return;
    event.preventDefault();
  });
  button.addEventListener("click", () => play(!playing));
  slider.addEventListener("input", () => { play(false); show(Number(slider.value)); });
  plot.addEventListener("click", (event) => {
    const box = plot.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * WIDTH;
    show(Math.floor(((place - LEFT) / (WIDTH - LEFT - RIGHT)) * (last + 1)));
  });
  window.addEventListener("resize", layout);
  layout();
  show(0);

  async function decode(image) {
    const bytes = Uint8Array.from(atob(image), (c) => c.charCodeAt(0));
    return createImageBitmap(new Blob([bytes], { type: "image/webp" }), { colorSpaceConversion: "none" });
  }
  Promise.all(data.panels.map((panel) => Promise.all(panel.images.map(decode)))).then((decoded) => {
    bitmaps = decoded;
    show(index);
    root.dataset.ready = "true";
    root.focus({ preventScroll: true });
  });
}
