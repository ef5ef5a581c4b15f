// What an edit of the latents does when it is decoded. The kernel answers, if there is one; answers are kept.
// data.changes.edits are the forms that latents/edits.py declares: {name, label, controls, needs}. The channel and the
// cell of an edit are those that the viewer's state holds; numbers and "all channels" are kept here.
function latentChange(lab, section) {
  const { data, state, choose, latent } = lab;
  const changes = data.changes;
  const AWAY = "This change is not kept in this page, and a page has no kernel to decode it (LatentViewer.precompute).";
  const PATIENCE = 20; // seconds without an answer, after which it can be asked for again
  let pending = null, ticking = null, drawn = null, original = null, opened = false;
  let edit = changes.edits[0], gain = data.gain;
  const failed = new Map();
  const options = element(section, "div", { class: "controls" });
  const named = changes.edits.map(({ name, label }) => [name, label]);
  const editControl = choiceControl(options, "change", named, edit.name, (name) => { edit = formOf(name); lab.redraw(); });
  const editButtons = [...editControl.querySelectorAll("button")];
  const formOf = (name) => changes.edits.find((each) => each.name === name);

  // A control of each kind: {box, value() for a request, take(a request's value), show()}. take returns what it changes
  // in the viewer's state.
  const KINDS = {
    number(control) {
      let now = control.value;
      const slider = sliderControl(options, control.label, control, (value) => { now = value; lab.redraw(); });
      return { box: slider.parentNode, value: () => now, take: (value) => { now = value; }, show: () => setSlider(slider, now) };
    },
    channel({ orAll }) {
      let all = false;
      const box = orAll ? choiceControl(options, "of", [[false, "the channel"], [true, "all channels"]], all, (every) => { all = every; lab.redraw(); }) : null;
      const show = () => box?.querySelectorAll("button").forEach((each, i) => each.setAttribute("aria-pressed", Boolean(i) === all));
      const take = (channel) => { all = channel === null; return all ? {} : { channel }; };
      return { box, value: () => (all ? null : state.channel), take, show };
    },
    cell() {
      const limits = { min: 0, max: data.size[1] - 1, value: state.cellFrame };
      const slider = sliderControl(options, "in latent frame", limits, (value) => { state.cellFrame = value; lab.redraw(); });
      const take = ([cellFrame, row, column]) => ({ cellFrame, row, column, at: latent() === cellFrame ? state.at : lab.firstOf(cellFrame) });
      return { box: slider.parentNode, value: () => [state.cellFrame, state.row, state.column], take, show: () => setSlider(slider, state.cellFrame) };
    },
  };
  function setSlider(slider, value) {
    slider.value = value;
    slider.nextElementSibling.textContent = String(value).replace("-", "−");
  }
  const controls = changes.edits.flatMap((form) => form.controls.map((control) => ({ ...KINDS[control.kind](control), form, name: control.name, kind: control.kind })));
  const controlsOf = (form) => controls.filter((control) => control.form === form);
  const decodeButton = element(options, "button", { type: "button", class: "decode" }, "Decode");
  const gainControl = choiceControl(options, "difference", data.gains.map((g) => [g, `×${g}`]), gain, (chosen) => { gain = chosen; lab.redraw(); });
  const status = element(section, "p", { class: "status", role: "status" });
  const keptList = element(section, "p", { class: "kept" });
  const results = element(section, "div", { class: "panels results" });
  const resultOf = (label) => {
    const figure = element(results, "figure");
    const title = element(figure, "figcaption", {}, label);
    return { figure, title, canvas: cellPicture(lab, figure, label, (row, column) => choose({ row, column })) };
  };
  const [before, after, difference] = ["decoded", "changed", "difference"].map(resultOf);
  const effectChart = shape(results, "svg", { class: "chart" });
  const changeNote = element(section, "p", { class: "note" });

  const request = () => ({ operation: edit.name, ...Object.fromEntries(controlsOf(edit).map((control) => [control.name, control.value()])) });
  const keyOf = (asked) => JSON.stringify(Object.entries(asked).sort());
  const answerTo = (key) => changes.answers.find((answer) => keyOf(answer.request) === key);
  function chooseAgain(asked) {
    edit = formOf(asked.operation);
    choose(Object.assign({}, ...controlsOf(edit).map((control) => control.take(asked[control.name]))));
  }

  function ask() {
    const asked = request(), key = keyOf(asked);
    if (!lab.link || !changes.live || answerTo(key) || (pending?.key === key && waited() < PATIENCE)) return;
    failed.delete(key);
    pending = { key, since: performance.now() };
    lab.link.ask(asked);
    lab.redraw();
  }
  decodeButton.addEventListener("click", ask);
  // An answer goes to its own request, so a late one never takes the place of a newer one.
  function answered(message) {
    const key = keyOf(message.request);
    if (pending?.key === key) pending = null;
    if (message.error) failed.set(key, message.error);
    else {
      if (message.decoded) changes.decoded = message.decoded;
      changes.note = message.note;
      if (!answerTo(key)) changes.answers.push(message.answer);
    }
    lab.redraw();
  }

  function draw() {
    const able = Boolean(lab.link && changes.live), kept = changes.answers.map((answer) => answer.request.operation);
    editButtons.forEach((each, i) => {
      const { name, needs } = changes.edits[i];
      each.setAttribute("aria-pressed", name === edit.name);
      each.title = needs || (able || kept.includes(name) ? "" : changes.reason || AWAY);
      each.disabled = Boolean(each.title);
    });
    for (const control of controls) {
      if (control.box) control.box.hidden = control.form !== edit;
      control.show();
    }
    section.classList.toggle("onecell", edit.controls.some(({ kind }) => kind === "cell"));
    const key = keyOf(request()), answer = answerTo(key);
    if (!opened && !answer && changes.answers.length) { // begin with an answer that is there
      opened = true;
      chooseAgain(changes.answers[0].request);
      return;
    }
    opened = true;
    const busy = pending?.key === key;
    decodeButton.hidden = !able;
    decodeButton.disabled = Boolean(answer || (busy && waited() < PATIENCE));
    decodeButton.textContent = !busy ? "Decode" : waited() < PATIENCE ? "Decoding …" : "Decode again";
    status.className = failed.has(key) ? "status wrong" : "status";
    if (answer) status.textContent = answer.text;
    else if (busy) status.textContent = waiting();
    else if (failed.has(key)) status.textContent = failed.get(key);
    else if (!changes.live) status.textContent = changes.reason;
    else if (!able) status.textContent = AWAY;
    else status.textContent = "Press Decode or Enter: the kernel decodes the changed latents, and the difference is shown.";
    clearInterval(ticking);
    ticking = busy ? setInterval(() => { if (state.tab === "change") draw(); }, 1000) : null;

    keptList.textContent = !changes.answers.length ? "" : able ? "decoded so far: " : "kept in this page: ";
    for (const each of changes.answers) {
      const mine = keyOf(each.request) === key;
      element(keptList, "button", { type: "button", "aria-pressed": mine }, each.name).addEventListener("click", () => chooseAgain(each.request));
    }
    changeNote.textContent = changes.note;
    gainControl.hidden = !answer;
    if (!answer || drawn?.answer !== answer) { // never show another answer in its place
      results.hidden = true;
      delete lab.root.dataset.answerFrame;
    }
    if (answer) showAnswer(answer, key);
  }
  const waited = () => (performance.now() - pending.since) / 1000;
  function waiting() {
    const late = waited() < PATIENCE ? "" : ". It may be busy with another cell; if it was stopped, run this cell again";
    return `The kernel decodes: ${Math.round(waited())} s${late}.`;
  }

  async function showAnswer(answer, key) {
    if (original?.source !== changes.decoded) {
      original = { source: changes.decoded, pictures: null };
      original.ready = decodeAll(changes.decoded.images);
    }
    if (drawn?.answer !== answer) drawn = { answer, pictures: null, ready: decodeAll(answer.images) };
    const [base, mine] = [original, drawn];
    base.pictures ??= await base.ready;
    mine.pictures ??= await mine.ready;
    if (mine !== drawn || base !== original || state.tab !== "change" || keyOf(request()) !== key) return; // the reader has moved on
    const index = Math.floor(state.at / changes.decoded.stride);
    const { height: tall, width: wide, stride } = changes.decoded;
    const first = pixelsOf(base.pictures[index]), second = pixelsOf(mine.pictures[index]);
    const map = new ImageData(wide, tall);
    for (let i = 0; i < first.data.length; i += 4) {
      let sum = 0;
      for (let c = i; c < i + 3; c += 1) {
        if (answer.differences) second.data[c] = (second.data[c] + first.data[c]) & 255; // kept as a difference
        sum += Math.abs(second.data[c] - first.data[c]);
      }
      const level = 3 * Math.min(255, Math.round((sum / 3) * gain));
      map.data.set([errorScale[level], errorScale[level + 1], errorScale[level + 2], 255], i);
    }
    [[before, first], [after, second], [difference, map]].forEach(([{ canvas }, image]) => {
      if (canvas.width !== wide || canvas.height !== tall) Object.assign(canvas, { width: wide, height: tall });
      canvas.getContext("2d").putImageData(image, 0, 0);
    });
    const t = index * stride;
    before.title.textContent = `decoded, frame ${t}`;
    after.title.textContent = `changed, frame ${t}`;
    difference.title.textContent = `difference ×${gain}, RMS ${digits(answer.rms[t])}`;
    const beside = lab.room >= 900;
    const share = ((beside ? lab.room - 330 : lab.room) - 20) / 3;
    const fit = Math.min(share / wide, (0.42 * window.innerHeight) / tall);
    const scale = fit >= 1 ? Math.floor(fit) : fit;
    for (const { figure, canvas } of [before, after, difference]) {
      figure.style.width = canvas.style.width = wide * scale + "px";
      canvas.style.height = tall * scale + "px";
    }
    lineChart(effectChart, beside ? Math.max(300, Math.floor(lab.room - 3 * (wide * scale + 10) - 4)) : lab.room, beside ? Math.max(170, Math.min(tall * scale, 260)) : 170, {
      title: "RMS difference, pixel range −1 to 1", x: answer.rms.map((_, i) => i), lines: [answer.rms], names: ["RMS"], chosen: 0,
      colour: data.colours.error, xLabel: "frame", whole: true, at: state.at,
    });
    results.hidden = false;
    lab.root.dataset.answerFrame = t;
  }
  const errorScale = bytesOf(data.errorScale);
  const scratch = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  function pixelsOf(image) {
    Object.assign(scratch.canvas, { width: image.width, height: image.height });
    scratch.drawImage(image, 0, 0);
    return scratch.getImageData(0, 0, image.width, image.height);
  }
  const unlisten = lab.link?.listen(answered);
  return { draw, ask, close: () => { clearInterval(ticking); unlisten?.(); } };
}
