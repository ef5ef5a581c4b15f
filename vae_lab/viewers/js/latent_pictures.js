// Latents as pictures: the current latent frame, and the film of all of them under the frames that they stand for.

// A picture on which a cell can be chosen and is marked. pick(row, column) is called on a click.
function cellPicture(lab, parent, label, pick) {
  const [, , height, width] = lab.data.size;
  const box = element(parent, "span", { class: "picture" });
  const canvas = element(box, "canvas", { role: "img", "aria-label": label });
  canvas.addEventListener("click", (event) => {
    const size = canvas.getBoundingClientRect();
    pick(Math.floor(((event.clientY - size.top) / size.height) * height), Math.floor(((event.clientX - size.left) / size.width) * width));
    lab.root.focus({ preventScroll: true });
  });
  return canvas;
}

function latentPictures(lab, section) {
  const { data, state, choose, latent } = lab;
  const [, length, height, width] = data.size;
  let bitmaps = null, brief = false;
  const put = (canvas, image) => {
    if (canvas.width !== image.width || canvas.height !== image.height) Object.assign(canvas, { width: image.width, height: image.height });
    canvas.getContext("2d").drawImage(image, 0, 0);
  };
  const channelOf = (view) => (view.name.startsWith("channel") ? { channel: Number(view.name.split(" ")[1]) } : {});
  const keptBy = (t) => Math.floor(t / data.frames.stride); // index of the picture that is kept for frame t

  const now = element(section, "div", { class: "panels now" });
  const shown = [...(data.frames ? [null] : []), ...data.latents].map((view) => {
    const figure = element(now, "figure");
    const title = element(figure, "figcaption", {}, view ? view.name : "frame");
    const canvas = cellPicture(lab, figure, view ? view.title : "frame", (row, column) => choose({ row, column, ...(view ? channelOf(view) : {}) }));
    return { view, figure, title, canvas };
  });
  const film = element(section, "div", { class: "film", role: "table", "aria-label": "All latent frames" });
  const cells = []; // [latent frame, element] of the whole film
  function filmRow(label, fill, scale = "") {
    const row = element(film, "div", { class: "strip", role: "row" });
    const name = element(row, "span", { class: "name", role: "rowheader" }, label);
    if (scale) element(name, "small", {}, scale);
    for (let l = 0; l < length; l += 1) {
      const cell = element(row, "span", { class: "frame", role: "cell" });
      cells.push([l, cell]);
      fill(cell, l);
    }
    return row;
  }
  filmRow("latent frame", (cell, l) => {
    element(cell, "b", {}, String(l));
    if (!data.groups) return;
    const [from, to] = data.groups[l];
    element(cell, "span", {}, to - from > 1 ? `${from}–${to - 1}` : String(from));
  }, data.groups ? "its frames" : "");
  const thumbs = [], strips = [], rowsOf = [];
  if (data.frames && data.groups) {
    filmRow("frames", (cell, l) => {
      for (let t = data.groups[l][0]; t < data.groups[l][1]; t += 1) {
        if (t % data.frames.stride) continue;
        thumbs.push([t, cellPicture(lab, cell, `frame ${t}`, (row, column) => choose({ at: t, row, column }))]);
      }
    }).classList.add("thumbs");
  }
  data.latents.forEach((view, v) => {
    const row = filmRow(view.name, (cell, l) => {
      strips.push([v, l, cellPicture(lab, cell, `${view.title}, latent frame ${l}`, (r, column) => choose({ at: lab.firstOf(l), row: r, column, ...channelOf(view) }))]);
    }, view.title.match(/\((.*)\)$/)?.[1].replaceAll("-", "−"));
    rowsOf.push([view, row]);
  });

  function layout() {
    const GAP = 10, LEAST = 30, { room } = lab; // LEAST: the width that a channel's number needs
    const [tall, wide] = data.frames ? [data.frames.height, data.frames.width] : [height, width];
    const fits = (scale) => {
      const perRow = Math.max(1, Math.floor((room + GAP) / (Math.max(wide * scale, LEAST) + GAP)));
      return Math.ceil(shown.length / perRow) * (tall * scale + 26) <= 0.34 * window.innerHeight && wide * scale <= room;
    };
    let scale = 1;
    if (fits(1)) while (fits(scale + 1)) scale += 1;
    else while (!fits(scale) && wide * scale > LEAST) scale /= 2;
    brief = wide * scale < 84; // narrower than "channel 127"
    for (const { view, title, figure, canvas } of shown) {
      canvas.style.width = Math.max(1, wide * scale) + "px";
      figure.style.width = Math.max(view ? LEAST : 52, wide * scale) + "px";
      if (view) title.textContent = brief ? view.name.replace("channel ", "") : view.name;
      canvas.style.height = Math.max(1, tall * scale) + "px";
    }
    const column = Math.max(48, Math.min(104, Math.floor((room - 96) / length) - 4));
    const most = Math.min(96, Math.max(32, (0.94 * window.innerHeight - 395 - (thumbs.length ? column : 0)) / data.latents.length));
    const whole = Math.min(column / width, most / height);
    const zoom = whole >= 1 ? Math.floor(whole) : whole;
    film.style.setProperty("--film", column + "px");
    for (const [, , canvas] of strips) Object.assign(canvas.style, { width: width * zoom + "px", height: height * zoom + "px" });
    for (const [, canvas] of thumbs) {
      const scale = (column - 2) / 2 / Math.max(data.frames.height, data.frames.width); // two side by side
      Object.assign(canvas.style, { width: data.frames.width * scale + "px", height: data.frames.height * scale + "px" });
    }
  }
  function draw() {
    const l = latent();
    for (const { view, title, canvas, figure } of shown) {
      figure.classList.toggle("chosen", Boolean(view) && channelOf(view).channel === state.channel);
      if (!view) title.textContent = `${brief ? "t =" : "frame"} ${keptBy(state.at) * data.frames.stride}`;
      if (bitmaps) put(canvas, view ? bitmaps.latents[data.latents.indexOf(view)][l] : bitmaps.frames[keptBy(state.at)]);
    }
    for (const [view, row] of rowsOf) row.classList.toggle("chosen", channelOf(view).channel === state.channel);
    let current = null;
    for (const [at, cell] of cells) {
      cell.classList.toggle("current", at === l);
      if (at === l) current ??= cell;
    }
    if (film.scrollWidth > film.clientWidth) film.scrollLeft = current.offsetLeft - film.clientWidth / 2;
  }

  const ready = decodeAll([data.latents.map((view) => view.images), data.frames?.images ?? []]).then(([latents, frames]) => {
    bitmaps = { latents, frames };
    for (const [v, l, canvas] of strips) put(canvas, latents[v][l]);
    for (const [t, canvas] of thumbs) put(canvas, frames[keptBy(t)]);
  });
  return { layout, draw, ready };
}
