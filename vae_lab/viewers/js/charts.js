// Charts in SVG: lines with labelled axes, and a matrix with its numbers. One line or row is chosen, the others stay soft.

// Round numbers that span low to high, about `count` of them: 1, 2 or 5 times a power of ten apart.
function ticksBetween(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((times) => times * power >= rough * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i += 1) ticks.push(i * step);
  return ticks;
}

// A number to three significant digits, with an exponent if it is large or small, and with a real minus sign.
function digits(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const text = size && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : size >= 1e3 ? value.toFixed(0) : value.toPrecision(3);
  return text.replaceAll("-", "−");
}

// The same for ticks: no zeros at the end.
function tickText(value) {
  return (value && Math.abs(value) < 1e-3 ? value.toExponential() : String(Number(value.toPrecision(6)))).replaceAll("-", "−");
}

// spec: {title, x: numbers, lines: [values over x], names, chosen, xLabel, logX, logY, references: [[y, text], ...], at: x marked}
// Values that are null, or not above 0 on a logarithmic axis, are left out.
function lineChart(svg, width, height, spec) {
  const LEFT = 52, RIGHT = 30, TOP = 24, BOTTOM = 36;
  svg.textContent = "";
  Object.entries({ width, height, role: "img", "aria-label": `${spec.title}, over ${spec.xLabel}` }).forEach((pair) => svg.setAttribute(...pair));
  shape(svg, "text", { x: 4, y: 13, class: "title" }, spec.title);
  const kept = spec.x.flatMap((x, i) => (spec.logX && !(x > 0) ? [] : [i]));
  const usable = (value) => value !== null && (!spec.logY || value > 0);
  const values = [...spec.lines.flatMap((line) => kept.map((i) => line[i])), ...(spec.references ?? []).map(([y]) => y)].filter(usable);
  if (!values.length || !kept.length) {
    shape(svg, "text", { x: LEFT, y: TOP + 24 }, spec.none ?? "nothing to draw");
    return;
  }
  function axis(numbers, log, from, to, count) {
    const put = log ? Math.log10 : (value) => value;
    let low = put(numbers.reduce((a, b) => Math.min(a, b))), high = put(numbers.reduce((a, b) => Math.max(a, b)));
    const least = log ? 0.3 : 1e-12 * Math.max(1, Math.abs(high)); // an axis is never a point
    if (high - low < least) { const more = log ? (least - high + low) / 2 : 0.5; low -= more; high += more; }
    if (from > to) { const margin = 0.05 * (high - low); low -= margin; high += margin; } // y only: lines keep away from the edges
    const place = (value) => from + ((to - from) * (put(value) - low)) / (high - low);
    const ticks = log ? decades(low, high, count) : ticksBetween(low, high, count);
    return [place, ticks];
  }
  function decades(low, high, count) {
    const times = high - low > 2 ? [1] : high - low > 0.6 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
    const every = Math.max(1, Math.ceil((high - low) / count)), ticks = [];
    for (let power = Math.floor(low); power <= high; power += 1) {
      if (power % every === 0) for (const each of times) ticks.push(each * 10 ** power);
    }
    return ticks.filter((value) => Math.log10(value) >= low - 1e-9 && Math.log10(value) <= high + 1e-9);
  }
  const bottom = height - BOTTOM;
  const [y, yTicks] = axis(values, spec.logY, bottom, TOP, Math.max(2, Math.floor((bottom - TOP) / 32)));
  const [x, xTicks] = axis(kept.map((i) => spec.x[i]), spec.logX, LEFT + 8, width - RIGHT, Math.max(2, Math.floor(width / 70)));
  for (const tick of yTicks) {
    shape(svg, "line", { class: "axis", x1: LEFT, x2: width - RIGHT + 4, y1: y(tick), y2: y(tick) });
    shape(svg, "text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, tickText(tick));
  }
  for (const tick of spec.whole ? xTicks.filter(Number.isInteger) : xTicks) {
    shape(svg, "text", { x: x(tick), y: bottom + 15, "text-anchor": "middle" }, tickText(tick));
  }
  shape(svg, "text", { x: (LEFT + width - RIGHT) / 2, y: height - 5, "text-anchor": "middle" }, spec.xLabel);
  const references = (spec.references ?? []).filter(([value]) => usable(value));
  for (const [value] of references) shape(svg, "line", { class: "chunk", x1: LEFT, x2: width - RIGHT + 4, y1: y(value), y2: y(value) });
  if (spec.at !== undefined) shape(svg, "line", { class: "cursor faint", x1: x(spec.at), x2: x(spec.at), y1: TOP - 4, y2: bottom });
  svg.style.setProperty("--chosen", spec.colour);
  const ends = [];
  const order = spec.lines.map((_, i) => i).sort((a, b) => (a === spec.chosen) - (b === spec.chosen)); // the chosen one on top
  for (const index of order) {
    let path = "", pen = "M", end = null;
    for (const i of kept) {
      const value = spec.lines[index][i];
      if (!usable(value)) { pen = "M"; continue; }
      path += `${pen}${x(spec.x[i]).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
      end = [x(spec.x[i]), y(value)];
    }
    if (!end) continue;
    const chosen = index === spec.chosen;
    const look = chosen ? "line chosen" : "line";
    shape(shape(svg, "path", { d: path, class: look }), "title", {}, spec.names[index]);
    if (chosen || kept.length === 1) {
      for (const i of kept) if (usable(spec.lines[index][i])) shape(svg, "circle", { class: look, cx: x(spec.x[i]), cy: y(spec.lines[index][i]), r: chosen ? 3 : 2.2 });
    }
    if (spec.lines.length > 1 && (spec.lines.length <= 8 || chosen)) ends.push({ x: end[0], y: end[1], index, chosen });
  }
  // A reference's name stands above or below its line, at the end that other lines are farthest from.
  for (const [value, text] of references) {
    const room = 7 * text.length, spots = [];
    for (const [at, anchor, from] of [[LEFT + 4, "start", LEFT], [width - RIGHT - 4, "end", width - RIGHT - room]]) {
      const near = kept.filter((i) => x(spec.x[i]) >= from - 12 && x(spec.x[i]) <= from + room + 12);
      for (const [by, middle] of [[-4, -8], [12, 8]]) {
        const free = spec.lines.flatMap((line) => near.map((i) => line[i]).filter(usable).map((v) => Math.abs(y(v) - y(value) - middle)));
        if (y(value) + by > TOP && y(value) + by < bottom) spots.push([Math.min(...free, height), at, anchor, y(value) + by]);
      }
    }
    spots.sort((a, b) => b[0] - a[0]);
    if (spots.length) shape(svg, "text", { x: spots[0][1], y: spots[0][3], "text-anchor": spots[0][2], class: "over" }, text);
  }
  // Numbers at the ends of the lines, moved apart so that they do not overlap.
  const LINE = 12;
  ends.sort((a, b) => a.y - b.y);
  ends.forEach((end, i) => { if (i) end.y = Math.max(end.y, ends[i - 1].y + LINE); });
  ends.reverse().forEach((end, i) => { end.y = Math.min(end.y, i ? ends[i - 1].y - LINE : bottom); });
  for (const end of ends) shape(svg, "text", { x: end.x + 7, y: end.y + 4, class: end.chosen ? "strong" : "" }, end.index);
}

// spec: {title, values: rows of numbers in [-1, 1], chosen: row, colours: [negative, positive]}; choose(row) is called on a click.
function matrixChart(svg, room, spec, choose) {
  const LABEL = 26, TOP = 40, count = spec.values.length;
  const cell = Math.max(12, Math.min(64, Math.floor((room - LABEL) / count)));
  svg.textContent = "";
  Object.entries({ width: Math.max(LABEL + cell * count + 2, 210), height: TOP + cell * count + 2, role: "img", "aria-label": spec.title }).forEach((pair) => svg.setAttribute(...pair));
  shape(svg, "text", { x: 4, y: 13, class: "title" }, spec.title);
  const every = Math.ceil(18 / cell);
  const exact = (value) => (value === null ? "–" : value.toFixed(2).replace(/^-(?=0\.00$)/, "").replace("-", "−"));
  const brief = (value) => (cell >= 40 ? exact(value) : exact(value).replace("0.", ".").replace("1.00", "1"));
  spec.values.forEach((row, i) => {
    const middle = TOP + (i + 0.5) * cell + 4;
    if (i % every === 0 || i === spec.chosen) {
      shape(svg, "text", { x: LABEL - 6, y: middle, "text-anchor": "end", class: i === spec.chosen ? "strong" : "" }, i);
      shape(svg, "text", { x: LABEL + (i + 0.5) * cell, y: TOP - 6, "text-anchor": "middle", class: i === spec.chosen ? "strong" : "" }, i);
    }
    row.forEach((value, j) => {
      const place = { x: LABEL + j * cell, y: TOP + i * cell, width: cell, height: cell };
      const rect = shape(svg, "rect", { class: "entry", ...place, fill: value === null ? "none" : spec.colours[value < 0 ? 0 : 1], "fill-opacity": Math.abs(value ?? 0) });
      shape(rect, "title", {}, `channels ${i} and ${j}: ${value === null ? "a channel is constant" : exact(value)}`);
      rect.addEventListener("click", () => choose(i));
      if (cell >= 26) shape(svg, "text", { x: place.x + cell / 2, y: middle, "text-anchor": "middle", class: Math.abs(value) > 0.45 ? `entry on-${value < 0 ? "dark" : "light"}` : "entry", "data-entry": `${i},${j}` }, brief(value));
    });
  });
  shape(svg, "rect", { class: "outline", x: LABEL, y: TOP + spec.chosen * cell, width: cell * count, height: cell });
}
