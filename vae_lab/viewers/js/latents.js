// Latents: every channel over time with the frames it stands for, its numbers, and what an edit does when decoded.
// This file holds what the four tabs share: the chosen frame, channel and cell. Each tab has a file.
// link, if a kernel answers: {ask(request), listen(callback) -> stop}. Without it only what is in the data is shown.
function mountLatents(root, data, link) {
  const [channels, length, height, width] = data.size;
  const steps = data.groups ? data.numFrames : length;
  const latentAt = data.groups ? data.groups.flatMap(([from, to], l) => Array(to - from).fill(l)) : [...Array(length).keys()];
  const names = [...Array(channels).keys()].map((c) => `channel ${c}`);
  // What the tabs get
  const state = { tab: "latents", at: 0, channel: 0, row: height >> 1, column: width >> 1, cellFrame: 0 };
  const values = data.values && new Float32Array(bytesOf(data.values).buffer);
  let playing = null;
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Latent viewer");
  root.style.setProperty("--rows", height);
  root.style.setProperty("--columns", width);
  if (data.note) element(root, "p", { class: "note" }, data.note);
  if (data.statistics.warning) {
    const warning = element(root, "p", { class: "wrong", role: "alert" });
    element(warning, "b", {}, "Warning: ");
    warning.append(data.statistics.warning);
  }

  const latent = () => latentAt[state.at]; // the current latent frame
  const firstOf = (l) => (data.groups ? data.groups[l][0] : l);
  const span = ([from, to]) => (to - from === 1 ? `frame ${from}` : `frames ${from} to ${to - 1}`);

  const options = element(root, "div", { class: "controls" });
  const tabs = [["latents", "latents"], ["statistics", "statistics"], ["relations", "relations"], ["change", "change"]];
  choiceControl(options, "show", tabs, state.tab, (tab) => { state.tab = tab; redraw(); });
  let setChannel;
  if (channels <= 8) {
    const control = choiceControl(options, "channel", names.map((_, c) => [c, String(c)]), 0, (c) => choose({ channel: c }));
    setChannel = (c) => control.querySelectorAll("button").forEach((button, i) => button.setAttribute("aria-pressed", i === c));
  } else {
    const range = sliderControl(options, "channel", { min: 0, max: channels - 1, value: 0 }, (c) => choose({ channel: c }));
    setChannel = (c) => { range.value = c; range.nextElementSibling.textContent = c; };
  }
  const controls = element(root, "div", { class: "controls" });
  const button = element(controls, "button", { type: "button", class: "play" }, "▶ Play");
  const range = element(element(controls, "span", { class: "control wide" }), "input",
    { type: "range", min: 0, max: steps - 1, step: 1, value: 0, "aria-label": data.groups ? "Frame" : "Latent frame" });
  const caption = element(root, "p", { class: "caption", "aria-live": "polite" });
  const timeline = shape(root, "svg", { class: "plot", role: "img", "aria-label": "Latent frames over frames" });
  const lab = { root, data, link, state, names, latentAt, latent, firstOf, choose, redraw, room: 0 };
  const sections = Object.fromEntries(tabs.map(([name]) => [name, element(root, "div", { class: "tab" })]));
  const parts = {
    latents: latentPictures(lab, sections.latents), statistics: latentStatistics(lab, sections.statistics),
    relations: latentRelations(lab, sections.relations), change: latentChange(lab, sections.change),
  };
  element(root, "p", { class: "help" }, `Keys: ← → one ${data.groups ? "frame, Page Up and Page Down one latent frame" : "latent frame"}, Home and End, Shift and arrows the cell, space plays.`);

  function choose(changes) {
    Object.assign(state, changes);
    state.row = Math.min(height - 1, Math.max(0, state.row));
    state.column = Math.min(width - 1, Math.max(0, state.column));
    state.at = Math.min(steps - 1, Math.max(0, state.at));
    // A cell stays in the latent frame in which it was chosen, so that the reader can see its effect in other frames
    if (("row" in changes || "column" in changes) && !("cellFrame" in changes)) state.cellFrame = latent();
    redraw();
  }

  let blocks = [], cursor = null, place = () => 0;
  function drawTimeline() {
    const LEFT = 44, RIGHT = 8;
    timeline.textContent = "";
    place = (t) => LEFT + ((lab.room - LEFT - RIGHT) * t) / steps;
    shape(timeline, "text", { x: LEFT - 6, y: 15, "text-anchor": "end" }, "latent");
    blocks = [...Array(length).keys()].map((l) => {
      const [from, to] = data.groups ? data.groups[l] : [l, l + 1];
      const block = shape(timeline, "rect", { class: "latent", x: place(from), width: place(to) - place(from), y: 2, height: 18, rx: 3, fill: data.colours.latent });
      const number = place(to) - place(from) > 16 ? shape(timeline, "text", { class: "in", x: place((from + to) / 2), y: 15, "text-anchor": "middle" }, l) : null;
      return [block, number];
    });
    for (const start of data.chunkStarts) if (start) shape(shape(timeline, "line", { class: "chunk", x1: place(start), x2: place(start), y1: 0, y2: 22 }), "title", {}, `a new chunk begins with frame ${start}`);
    const every = Math.max(1, Math.ceil((steps * 46) / (lab.room - LEFT - RIGHT)));
    for (let t = 0; data.groups && t < steps; t += every) shape(timeline, "text", { x: place(t + 0.5), y: 35, "text-anchor": "middle" }, (t === 0 ? "t = " : "") + t);
    cursor = shape(timeline, "line", { class: "cursor", y1: 17, y2: 25 });
    timeline.setAttribute("width", lab.room);
    timeline.setAttribute("height", data.groups ? 40 : 24);
    timeline.onclick = (event) => choose({ at: Math.floor(((event.clientX - timeline.getBoundingClientRect().left - LEFT) / (lab.room - LEFT - RIGHT)) * steps) });
  }

  function drawCaption() {
    const l = latent();
    caption.textContent = "";
    if (data.groups) element(caption, "b", {}, `t = ${state.at}`);
    swatch(caption, data.colours.latent, `latent frame ${l}${data.groups ? `, of ${span(data.groups[l])}` : ""}`);
    const cell = element(caption, "span", { class: "cell" }, `cell row ${state.row}, column ${state.column}`);
    if (!values) return;
    const shown = channels <= 8 ? names.map((_, c) => c) : [state.channel];
    shown.forEach((c, i) => {
      cell.append(i ? ", " : ", channel ");
      const value = values[((c * length + l) * height + state.row) * width + state.column];
      element(cell, c === state.channel ? "b" : "span", { "data-value": c }, `${c}: ${value.toFixed(2).replace("-", "−")}`);
    });
  }

  function redraw() {
    if (!lab.room) return;
    for (const [name, section] of Object.entries(sections)) section.hidden = name !== state.tab;
    setChannel(state.channel);
    range.value = state.at;
    range.setAttribute("aria-valuetext", data.groups ? `frame ${state.at}, latent frame ${latent()}` : `latent frame ${state.at}`);
    root.style.setProperty("--row", state.row);
    root.style.setProperty("--column", state.column);
    blocks.forEach((block, l) => block.forEach((each) => each?.classList.toggle("current", l === latent())));
    for (const end of ["x1", "x2"]) cursor?.setAttribute(end, place(state.at + 0.5));
    drawCaption();
    parts[state.tab].draw();
    Object.assign(root.dataset, { frame: state.at, latent: latent(), channel: state.channel, cell: `${state.row},${state.column}` });
  }

  function play(on) {
    clearInterval(playing);
    playing = on ? setInterval(() => choose({ at: state.at === steps - 1 ? 0 : state.at + 1 }), 1000 / (data.groups ? 12 : 4)) : null;
    button.textContent = on ? "❚❚ Pause" : "▶ Play";
    caption.setAttribute("aria-live", on ? "off" : "polite");
  }
  const toLatent = (by) => firstOf(Math.min(length - 1, Math.max(0, latent() + by)));
  const KEYS = {
    ArrowLeft: () => ({ at: state.at - 1 }), ArrowRight: () => ({ at: state.at + 1 }), Home: () => ({ at: 0 }), End: () => ({ at: steps - 1 }),
    PageUp: () => ({ at: toLatent(-1) }), PageDown: () => ({ at: toLatent(1) }),
  };
  const CELL_KEYS = {
    ArrowLeft: () => ({ column: state.column - 1 }), ArrowRight: () => ({ column: state.column + 1 }),
    ArrowUp: () => ({ row: state.row - 1 }), ArrowDown: () => ({ row: state.row + 1 }),
  };
  root.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target.type === "range" && event.target !== range && event.key !== "Enter") return; // other sliders keep their keys
    const keys = event.shiftKey ? CELL_KEYS : KEYS;
    if (event.key === " " && event.target.tagName !== "BUTTON") play(!playing);
    else if (event.key === "Enter" && event.target.tagName !== "BUTTON" && state.tab === "change") parts.change.ask();
    else if (event.key in keys) { play(false); choose(keys[event.key]()); }
    else return;
    event.preventDefault();
  });
  button.addEventListener("click", () => play(!playing));
  range.addEventListener("input", () => { play(false); choose({ at: Number(range.value) }); });
  const unwatch = onWidth(root, (room) => { lab.room = room; parts.latents.layout(); drawTimeline(); redraw(); });

  const ready = parts.latents.ready.then(() => {
    redraw();
    root.dataset.ready = "true";
  });
  return { ready, close: () => { play(false); unwatch(); parts.change.close(); } };
}
