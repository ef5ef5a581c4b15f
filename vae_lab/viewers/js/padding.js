// The time axis of causal convolutions: padding, windows, outputs, and what a chosen output sees.
// Every number comes from tables that Python made with vae_lab.shapes and the real modules.
function mountPadding(root, data) {
  const state = { ...data.start };
  let room = 0, hovered = null;
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Padding of causal convolutions");
  const controls = element(root, "div", { class: "controls" });
  for (const [key, name] of [["frames", "frames T"], ["kernel", "kernel k"], ["stride", "stride s"], ["dilation", "dilation d"], ["layers", "layers"]]) {
    sliderControl(controls, name, { ...data.limits[key], value: state[key] }, (value) => { state[key] = value; state.output = Infinity; hovered = null; draw(); });
  }
  choiceControl(controls, "pad mode", data.modes.map((mode) => [mode, mode]), state.mode, (mode) => { state.mode = mode; hovered = null; draw(); });
  const legend = element(root, "p", { class: "caption" });
  for (const [key, text] of [["padding", "padding"], ["input", "input frames"], ["latent", "outputs"]]) swatch(legend, data.colours[key], text);
  const svg = shape(root, "svg", { class: "cells", role: "img" });
  const message = element(root, "p", { class: "wrong", role: "alert", hidden: "" });
  const lines = element(root, "table", { class: "lines" });
  element(root, "p", { class: "help" }, "Click or hover an output to see what it sees, a frame to see which outputs see it. Keys: ← → choose the output, Home and End.");

  // The layers one after another: how many cells come in, how many are padded in front, and what those hold.
  function solve() {
    const layer = data.layers[`${state.kernel},${state.stride},${state.dilation}`];
    if (layer.error) return { error: layer.error };
    const rows = [];
    let size = state.frames;
    for (let l = 0; l < state.layers; l += 1) {
      const outputs = layer.outputs[size - 1];
      const sources = data.sources[state.mode][size - 1][layer.padding];
      const error = outputs.error ?? sources.error;
      if (error) return { error: (state.layers > 1 ? `layer ${l}: ` : "") + error };
      rows.push({ size, padding: layer.padding, sources });
      size = outputs;
    }
    rows.push({ size, padding: 0, sources: [] });
    return { rows, padding: layer.padding };
  }

  // Which cells of every row an output of the last row depends on, and the lines between them.
  function seenBy(rows, output) {
    const seen = rows.map(() => new Set());
    const edges = [];
    seen[rows.length - 1].add(output);
    const addCopies = (r) => { // a padding cell that copies a cell depends on that cell
      for (const j of [...seen[r]]) if (j < 0 && rows[r].sources[j + rows[r].padding] !== null) seen[r].add(rows[r].sources[j + rows[r].padding]);
    };
    for (let r = rows.length - 1; r > 0; r -= 1) {
      for (const j of seen[r]) {
        if (j < 0) continue;
        for (let i = 0; i < state.kernel; i += 1) {
          const cell = j * state.stride + i * state.dilation - rows[r - 1].padding;
          seen[r - 1].add(cell);
          edges.push([r, j, cell]);
        }
      }
      addCopies(r - 1);
    }
    return { seen, edges };
  }

  function spans(numbers) {
    const sorted = [...numbers].sort((a, b) => a - b), parts = [];
    for (const n of sorted) {
      if (parts.length && n === parts.at(-1)[1] + 1) parts.at(-1)[1] = n;
      else parts.push([n, n]);
    }
    return parts.map(([a, b]) => (a === b ? `${a}` : `${a} to ${b}`)).join(", ");
  }
  const plural = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

  function draw() {
    const { rows, padding, error } = solve();
    svg.textContent = lines.textContent = "";
    message.hidden = !error;
    svg.style.display = error ? "none" : "block";
    message.textContent = error ?? "";
    root.dataset.error = error ?? "";
    if (error) return;
    const last = rows.length - 1, outputs = rows[last].size;
    state.output = Math.max(0, Math.min(state.output, outputs - 1));
    const all = Array.from({ length: outputs }, (_, j) => seenBy(rows, j));
    const chosen = hovered?.row === last ? hovered.cell : state.output;
    const frame = hovered?.row === 0 && hovered.cell >= 0 ? hovered.cell : null;
    const { seen, edges } = all[chosen];

    // Horizontally every cell covers its group of frames; rows stand below one another.
    const step = rows.map((_, r) => state.stride ** r);
    const left = Math.max(...rows.map((row, r) => row.padding * step[r]));
    const LABEL = 84, ROW = 30, GAP = last > 1 ? 30 : 44;
    const unit = Math.min(46, (room - LABEL - 4) / (left + state.frames));
    const px = (r, cell) => LABEL + (left + cell * step[r]) * unit;
    const py = (r) => 4 + r * (ROW + GAP);
    const colour = (r, cell) => data.colours[cell < 0 ? "padding" : r === 0 ? "input" : "latent"];
    const isSeen = (r, cell) => (frame === null ? seen[r].has(cell) : (r === 0 && cell === frame) || (r === last && all[cell]?.seen[0].has(frame)));
    if (frame === null) {
      for (const [r, j, cell] of edges) {
        const from = [px(r, j + 0.5), py(r)], to = [px(r - 1, cell + 0.5), py(r - 1) + ROW];
        shape(svg, "path", { d: `M${from}C${from[0]} ${from[1] - GAP / 2} ${to[0]} ${to[1] + GAP / 2} ${to}` });
      }
    }
    const anywhere = new Set(all.flatMap((one) => [...one.seen[0]]));
    rows.forEach((row, r) => {
      const name = r === 0 ? "input" : r === last ? "output" : `after layer ${r - 1}`;
      shape(svg, "text", { x: 0, y: py(r) + ROW / 2 + 4 }, name);
      for (let cell = -row.padding; cell < row.size; cell += 1) {
        const unseen = r === 0 && cell >= 0 && !anywhere.has(cell);
        const chosenCell = (r === last && cell === chosen && frame === null) || (r === 0 && cell === frame);
        const kind = unseen ? "unseen" : isSeen(r, cell) ? (chosenCell ? "chosen" : "") : "faint";
        shape(svg, "rect", {
          x: px(r, cell), y: py(r), width: step[r] * unit, height: ROW, rx: 4, class: kind,
          fill: colour(r, cell), "data-row": r, "data-cell": cell,
        });
        if (step[r] * unit < 15) continue;
        const copy = cell < 0 ? row.sources[cell + row.padding] : null;
        const note = cell >= 0 ? cell : copy !== null ? `=${copy}` : step[r] * unit >= 34 ? "zero" : "";
        const tone = unseen || kind === "faint" ? "" : r > 0 || cell < 0 ? "in dark" : "in";
        shape(svg, "text", { x: px(r, cell + 0.5), y: py(r) + ROW / 2 + 4, class: tone, "text-anchor": "middle", "pointer-events": "none" }, note);
      }
    });

    // Below: one line for each output with everything it sees, so that all windows are visible at once.
    const top = py(last) + ROW + 22, line = Math.min(14, 150 / outputs);
    shape(svg, "text", { x: 0, y: top - 8 }, `What each output sees of the input${last > 1 ? ` through ${last} layers` : " (its window)"}`);
    all.forEach((one, j) => {
      if (line >= 11 || j === chosen) shape(svg, "text", { x: 0, y: top + j * line + line / 2 + 4 }, `output ${j}`);
      for (const cell of one.seen[0]) {
        const lit = frame === null ? j === chosen : cell === frame;
        shape(svg, "rect", {
          x: px(0, cell) + 0.5, y: top + j * line + 0.5, width: unit - 1, height: line - 1, rx: 2, class: lit ? "" : "faint",
          fill: colour(0, cell), "data-row": last, "data-cell": j, style: "stroke: none",
        });
      }
    });
    const height = top + outputs * line + 4;
    svg.setAttribute("width", room);
    svg.setAttribute("height", height);
    const summary = frame === null ? sees(chosen, seen) : seenFrom(frame, all);
    svg.setAttribute("aria-label", summary);
    formula(rows, padding, summary, [...Array(state.frames).keys()].filter((t) => !anywhere.has(t)));
    root.dataset.output = chosen;
  }

  function sees(output, seen) {
    const frames = [...seen[0]].filter((cell) => cell >= 0);
    const padded = seen.reduce((sum, cells) => sum + [...cells].filter((cell) => cell < 0).length, 0);
    const what = [frames.length ? `frame${frames.length > 1 ? "s" : ""} ${spans(frames)}` : "no frame"];
    const where = state.layers > 1 ? " in all layers" : "";
    if (padded) what.push(plural(padded, "padding cell") + where + (state.mode === "constant" ? " (zeros)" : ` (${state.mode})`));
    return `output ${output} sees ${what.join(" and ")}`;
  }
  function seenFrom(frame, all) {
    const outputs = all.flatMap((one, j) => (one.seen[0].has(frame) ? [j] : []));
    return `frame ${frame} is seen by ${outputs.length ? `output${outputs.length > 1 ? "s" : ""} ${spans(outputs)}` : "no output"}`;
  }

  function formula(rows, padding, summary, unseen) {
    const { kernel: k, stride: s, dilation: d, frames: t, mode } = state;
    const line = (...of) => tableLine(lines, ...of);
    line("padding in front", `d·(k − 1) + (1 − s) = ${d}·(${k} − 1) + (1 − ${s}) = ${padding}`);
    const chain = rows.length > 2 ? `;  layer by layer ${rows.map((row) => row.size).join(" → ")}` : "";
    line("outputs", `⌊(T + padding − d·(k − 1) − 1) / s⌋ + 1 = ⌊(${t} + ${padding} − ${d}·(${k} − 1) − 1) / ${s}⌋ + 1 = ${rows[1].size}${chain}`);
    line("receptive field", summary + (unseen.length ? `;  dashed: seen by none: ${spans(unseen)}` : ""));
    const pad = `F.pad(x, (0, 0, 0, 0, ${padding}, 0)${mode === "constant" ? "" : `, mode="${mode}"`})`;
    line(rows.length > 2 ? "one layer in torch" : "in torch", `F.conv3d(${pad}, weight, stride=(${s}, 1, 1), dilation=(${d}, 1, 1))`, "code");
    line("in vae_lab", `CausalConv3d(1, 1, (${k}, 1, 1), stride=(${s}, 1, 1), dilation=(${d}, 1, 1), pad_mode="${mode}")`, "code");
  }

  const cellAt = (event) => {
    const { row, cell } = event.target.dataset ?? {};
    return row === undefined ? null : { row: Number(row), cell: Number(cell) };
  };
  const hover = (next) => {
    if (next?.row === hovered?.row && next?.cell === hovered?.cell) return;
    hovered = next;
    draw();
  };
  svg.addEventListener("mouseover", (event) => hover(cellAt(event)));
  svg.addEventListener("mouseleave", () => hover(null));
  svg.addEventListener("click", (event) => {
    const at = cellAt(event);
    if (at?.row === state.layers) { state.output = at.cell; hovered = null; draw(); }
  });
  onRowKeys(root, () => state.output, (next) => { hovered = null; state.output = next; draw(); });
  const close = onWidth(root, (width) => { room = width; draw(); });
  root.dataset.ready = "true";
  return { ready: Promise.resolve(), close };
}
