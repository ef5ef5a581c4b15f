// Which frames go into which latent frame. Sizes come from tables that Python made with vae_lab.shapes; compression and
// memory follow from them.
function mountSizes(root, data) {
  const state = { ...data.start };
  let room = 0, hovered = null;
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Latent sizes");
  const controls = element(root, "div", { class: "controls" });
  const pick = (key) => (value) => { state[key] = value; hovered = null; draw(); };
  for (const [key, name] of [["frames", "frames T"], ["height", "height H"], ["width", "width W"]]) {
    sliderControl(controls, name, { ...data.limits[key], value: state[key] }, pick(key));
  }
  const names = [["", "Open-Sora 1.2, vae_lab"], ...data.families.map(({ name }) => [name, name])];
  selectControl(controls, "family", names, state.family ?? "", (name) => pick("family")(name || null));
  const own = [choiceControl(controls, "chunk length", data.chunks.map((c) => [c, c === null ? "none" : String(c)]), state.chunk, pick("chunk")),
    choiceControl(controls, "temporal ratio", data.ratios.map((r) => [r, `${r}×`]), state.ratio, pick("ratio"))];
  const legend = element(root, "p", { class: "caption" });
  const zeros = element(legend, "span");
  swatch(zeros, data.colours.padding, "padding (zeros)");
  for (const [key, text] of [["input", "input frames"], ["latent", "latent frames"]]) swatch(legend, data.colours[key], text);
  const svg = shape(root, "svg", { class: "cells", role: "img" });
  const lines = element(root, "table", { class: "lines" });
  element(root, "p", { class: "help" }, "Click or hover a latent frame to see its frames. Keys: ← → choose the latent frame, Home and End.");

  // [17, 17, 1] with a number for each -> "2 × 5 + 1"
  function sum(numbers) {
    const parts = [];
    for (const n of numbers) {
      if (parts.length && parts.at(-1)[1] === n) parts.at(-1)[0] += 1;
      else parts.push([1, n]);
    }
    const text = parts.map(([times, n]) => (times > 1 ? `${times} × ${n}` : `${n}`)).join(" + ");
    return numbers.length > 1 ? `${text} = ${numbers.reduce((a, b) => a + b)}` : text;
  }
  const span = (start, stop) => (stop - start === 1 ? `frame ${start}` : `frames ${start} to ${stop - 1}`);
  function bytes(n) {
    const power = Math.min(3, Math.floor(Math.log10(Math.max(n, 1)) / 3));
    return `${(n / 1000 ** power).toFixed(power ? 1 : 0)} ${["B", "kB", "MB", "GB"][power]}`;
  }

  // The sentence of Family.fate in Python, or that the released model does not take the size; empty for clips that it keeps
  function refused({ law, taken, rule, cell }, frames, height, width) {
    const { latents, back, blank, kept } = data.laws[law];
    const [made, decoded, black] = [latents, back, blank].map((of) => of?.[frames - 1]);
    const count = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
    const [tall, wide] = [height, width].map((side) => Math.ceil(side / cell) * cell);
    if (taken && !taken.some(([h, w]) => h === tall && w === wide)) return `does not take ${tall}x${wide}: ${rule}`;
    if (kept.includes(frames)) return "";
    let what = decoded > frames ? `returns ${count(decoded, "frame")} for ${frames}` : `returns ${decoded} of ${count(frames, "frame")}`;
    if (decoded === null) what = made === null ? `fails on ${count(frames, "frame")}` : `encodes ${count(frames, "frame")} to ${count(made, "latent frame")}, which it does not decode`;
    else if (black) what += `, ${black} of them black`;
    const nearest = [kept.findLast((t) => t < frames), kept.find((t) => t > frames)].filter((t) => t !== undefined);
    return `${what}; nearest length${nearest.length > 1 ? "s" : ""} that it keeps: ${nearest.join(" and ")}`;
  }

  function draw() {
    const { frames, height, width } = state;
    const family = data.families.find(({ name }) => name === state.family);
    const { ratio, chunk } = family ?? state;
    const refusal = family ? refused(family, frames, height, width) : "";
    for (const part of [...own, zeros]) part.hidden = Boolean(family);
    const law = family && data.laws[family.law];
    // Frames that come back. If fewer do than went in, the others at the end belong to no latent frame
    const back = law?.back[frames - 1] ?? frames;
    const whole = refusal && (back >= frames || !law.kept.includes(back)) ? 0 : Math.min(back, frames);
    const lengths = data.chunkLengths[chunk][(whole || frames) - 1];
    const table = law?.starts ? { ...data.tables[ratio], starts: law.starts } : data.tables[ratio];
    const paddings = lengths.map((n) => (family ? 0 : table.padding[n - 1]));
    const latents = lengths.map((n) => (whole ? table.starts[n - 1].length : 0));
    const total = latents.reduce((a, b) => a + b);
    state.latent = Math.max(0, Math.min(state.latent, total - 1));
    const chosen = hovered ?? state.latent;

    svg.textContent = lines.textContent = "";
    const GAP = 0.6, ROW = 34, LABEL = 54;
    const cells = frames + paddings.reduce((a, b) => a + b) + GAP * (lengths.length - 1);
    const unit = Math.min(44, (room - LABEL - 4) / cells);
    const every = Math.ceil(20 / unit);
    let x = LABEL, start = 0, index = 0, fact = null;
    shape(svg, "text", { x: 0, y: 42 }, "frames");
    shape(svg, "text", { x: 0, y: 96 }, "latents");
    lengths.forEach((length, c) => {
      const padding = paddings[c], starts = whole ? table.starts[length - 1] : [];
      const groups = starts.map((first, i) => [first, starts[i + 1] ?? length]);
      const mine = chosen >= index && chosen < index + groups.length ? groups[chosen - index] : null;
      if (lengths.length > 1 && length * unit > 50) shape(svg, "text", { x: x, y: 12 }, `chunk ${c}`);
      const put = (at, text) => shape(svg, "text", { x: at, y: 42, class: "in" }, text);
      for (let i = -padding; i < length; i += 1) {
        const at = x + (i + padding) * unit;
        const lit = mine && (i < 0 ? mine[0] === 0 : i >= mine[0] && i < mine[1]);
        shape(svg, "rect", {
          x: at, y: 20, width: unit, height: ROW, rx: 3, class: lit ? "" : "faint", fill: data.colours[i < 0 ? "padding" : "input"],
          "data-latent": index + (i < 0 ? 0 : groups.findIndex(([, stop]) => i < stop)), "data-frame": i < 0 ? "" : start + i,
        });
        if (i >= 0 && (start + i) % every !== 0) continue;
        if (lit && i >= 0) put(at + unit / 2, start + i);
        else if (i >= 0) shape(svg, "text", { x: at + unit / 2, y: 42, "text-anchor": "middle", "pointer-events": "none" }, start + i);
      }
      groups.forEach(([first, stop], g) => {
        const from = x + (g === 0 ? 0 : first + padding) * unit, wide = (stop - first + (g === 0 ? padding : 0)) * unit;
        const lit = index + g === chosen;
        shape(svg, "rect", {
          x: from, y: 74, width: wide, height: ROW, rx: 3, class: lit ? "chosen" : "faint", fill: data.colours.latent, "data-latent": index + g,
        });
        if (lit) shape(svg, "path", { d: `M${from + 2} 57L${from + wide - 2} 57M${from + wide / 2} 57L${from + wide / 2} 74` });
        if (wide >= 15 || lit) shape(svg, "text", { x: from + wide / 2, y: 96, class: lit && wide >= 15 ? "in dark" : "", "text-anchor": "middle", "pointer-events": "none" }, index + g);
        if (lit) fact = { padding: g === 0 ? padding : 0, first: start + first, stop: start + stop, from: start, to: start + length };
      });
      x += (length + padding + GAP) * unit;
      start += length;
      index += groups.length;
    });
    for (let i = start; i < frames; i += 1, x += unit) {
      shape(svg, "rect", { x, y: 20, width: unit, height: ROW, rx: 3, class: "unseen", "data-frame": i });
      if (i % every === 0) shape(svg, "text", { x: x + unit / 2, y: 42, "text-anchor": "middle", "pointer-events": "none" }, i);
    }
    svg.setAttribute("width", room);
    svg.setAttribute("height", 114);

    const line = (...of) => tableLine(lines, ...of);
    if (refusal) {
      line("note", `${family.name} ${refusal}`);
      line("latent frames", `${family.formula}: ${law.latents[frames - 1] ?? "none"}`);
      line("frames back", `${law.back[frames - 1] ?? "none"}`);
      svg.setAttribute("aria-label", refusal);
      return;
    }
    const padded = fact.padding ? ` and ${fact.padding} padding frame${fact.padding > 1 ? "s" : ""}` : "";
    const piece = lengths.length > 1 ? `its chunk, ${span(fact.from, fact.to)}` : `the clip, ${span(fact.from, fact.to)}`;
    const summary = `latent frame ${chosen} stands for ${span(fact.first, fact.stop)}${padded}`;
    line("chosen", summary);
    if (family) line("it can see", `in the encoder, a frame is mixed with ${family.sees}`);
    else line("it can see", `through causal convolutions ${span(fact.from, fact.stop)}, none later; through GroupNorm over time, as released, all of ${piece}`);
    line("chunks", chunk === null ? `none: ${frames} frames at once` : `${sum(lengths)} frames, each chunk alone`);
    if (family) line("before the first frame", family.before);
    else line("zero frames in front", `−T mod ${ratio}, for each chunk: ${sum(paddings)}`);
    if (family) line("latent frames", `${family.formula}: ${total}`);
    else line("latent frames", `⌈T / ${ratio}⌉, for each chunk: ${sum(latents)}`);
    const cell = family?.cell ?? data.spatialRatio, channels = family?.channels ?? data.latentChannels;
    const [h, w] = [height, width].map((side) => data.latentSides[cell][side / data.spatialRatio - 1]);
    line("latent size", `${channels} channels × ${total} × ${h} × ${w}, for 3 × ${frames} × ${height} × ${width} (channels × frames × height × width)`);
    const numbers = (3 * frames * height * width) / (channels * total * h * w);
    line("compression", `${numbers.toFixed(1)} numbers become one`);
    const clip = data.bytes * 3 * frames * height * width, latent = data.bytes * channels * total * h * w;
    const batch = Math.min(frames, data.decoder.frames);
    if (family) {
      line("memory in float32", `clip ${bytes(clip)}, latent ${bytes(latent)}`);
      line("in vae_lab", `families.clip_size("${family.name.toLowerCase()}", ${frames}, ${height}, ${width})`, "code");
    } else {
      line("memory in float32", `clip ${bytes(clip)}, latent ${bytes(latent)}; the largest tensor inside the released 2D decoder, ${batch} frame${batch > 1 ? "s" : ""} at once, ${bytes(data.bytes * data.decoder.channels * batch * height * width)}`);
      line("in vae_lab", `shapes.latent_size((${frames}, ${height}, ${width}), temporal_ratio=${ratio}, micro_frame_size=${chunk ?? "None"})`, "code");
    }
    svg.setAttribute("aria-label", summary);
    root.dataset.latent = chosen;
  }

  const latentAt = (event) => (event.target.dataset?.latent === undefined ? null : Number(event.target.dataset.latent));
  const hover = (next) => { if (next !== hovered) { hovered = next; draw(); } };
  svg.addEventListener("mouseover", (event) => hover(latentAt(event)));
  svg.addEventListener("mouseleave", () => hover(null));
  svg.addEventListener("click", (event) => { const at = latentAt(event); if (at !== null) { state.latent = at; draw(); } });
  onRowKeys(root, () => state.latent, (next) => { hovered = null; state.latent = next; draw(); });
  const close = onWidth(root, (width) => { room = width; draw(); });
  root.dataset.ready = "true";
  return { ready: Promise.resolve(), close };
}
