// What a change of the latents does when it is decoded. The kernel answers, where there is one; answers are kept.
function latentChange(lab, section) {
  const { data, state, choose, latent } = lab;
  const [, length] = data.size;
  const changes = data.changes;
  const change = { operation: "zero", factor: 2, shift: length > 1 ? 1 : 0, weight: 0.5, amount: 3, every: false, gain: data.gain };
  const AWAY = "This change is not kept in this page, and a page has no kernel to decode it (LatentViewer.precompute).";
  const PATIENCE = 20; // seconds without an answer, after which it can be asked for again
  let pending = null, ticking = null, drawn = null, original = null, opened = false;
  const failed = new Map();
  const OPERATIONS = [["zero", "zero"], ["amplify", "amplify"], ["shift", "shift in time"], ["swap", "swap with the other clip"], ["interpolate", "interpolate"], ["cell", "one cell"]];
  const changeOptions = element(section, "div", { class: "controls" });
  const operationControl = choiceControl(changeOptions, "change", OPERATIONS, change.operation, (operation) => { change.operation = operation; lab.redraw(); });
  const operationButtons = [...operationControl.querySelectorAll("button")];
  const lacking = ([name]) => {
    if (["swap", "interpolate"].includes(name) && !changes.other) return "needs other=, the latents of a second clip";
    return name === "shift" && length === 1 ? "needs two latent frames" : "";
  };
  const parameters = {};
  const parameter = (operation, name, limits, key, owner = change) => {
    const input = sliderControl(changeOptions, name, { ...limits, value: owner[key] }, (value) => { owner[key] = value; lab.redraw(); });
    (parameters[operation] ??= []).push([input.parentNode, input, () => owner[key]]);
  };
  parameter("amplify", "factor", { min: -2, max: 4, step: 0.25 }, "factor");
  parameter("shift", "latent frames", { min: Math.min(-1, 1 - length), max: Math.max(1, length - 1) }, "shift");
  parameter("interpolate", "weight of the other", { min: 0, max: 1, step: 0.05 }, "weight");
  parameter("cell", "in latent frame", { min: 0, max: length - 1 }, "cellFrame", state);
  parameter("cell", "amount, std of the channel", { min: -6, max: 6, step: 0.5 }, "amount");
  const everyControl = choiceControl(changeOptions, "of", [[false, "the channel"], [true, "all channels"]], false, (every) => { change.every = every; lab.redraw(); });
  parameters.cell.push([everyControl]);
  const decodeButton = element(changeOptions, "button", { type: "button", class: "decode" }, "Decode");
  const gainControl = choiceControl(changeOptions, "difference", data.gains.map((g) => [g, `×${g}`]), change.gain, (gain) => { change.gain = gain; lab.redraw(); });
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

  function question() {
    const { operation } = change, { channel } = state;
    return {
      zero: { operation, channel },
      amplify: { operation, channel, factor: change.factor },
      shift: { operation, channel, latent_frames: change.shift },
      swap: { operation, channel },
      interpolate: { operation, weight: change.weight },
      cell: { operation, cell: [state.cellFrame, state.row, state.column], amount: change.amount, channel: change.every ? null : channel },
    }[operation];
  }
  const keyOf = (asked) => JSON.stringify(Object.entries(asked).sort());
  const answerTo = (key) => changes.answers.find((answer) => keyOf(answer.question) === key);
  function choseAgain(asked) {
    change.operation = asked.operation;
    change.factor = asked.factor ?? change.factor;
    change.shift = asked.latent_frames ?? change.shift;
    change.weight = asked.weight ?? change.weight;
    change.amount = asked.amount ?? change.amount;
    change.every = asked.operation === "cell" && asked.channel === null;
    const [cellFrame, row, column] = asked.cell ?? [];
    const cell = asked.cell ? { at: latent() === cellFrame ? state.at : lab.firstOf(cellFrame), row, column, cellFrame } : {};
    choose({ channel: asked.channel ?? state.channel, ...cell });
  }

  function ask() {
    const asked = question(), key = keyOf(asked);
    if (!lab.link || !changes.live || answerTo(key) || (pending?.key === key && waited() < PATIENCE)) return;
    failed.delete(key);
    pending = { key, since: performance.now() };
    lab.link.ask(asked);
    lab.redraw();
  }
  decodeButton.addEventListener("click", ask);
  // An answer goes to its own question, so that one that comes late never takes the place of a newer one.
  function answered(message) {
    const key = keyOf(message.question);
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
    const able = Boolean(lab.link && changes.live), kept = changes.answers.map((answer) => answer.question.operation);
    operationButtons.forEach((each, i) => {
      each.setAttribute("aria-pressed", OPERATIONS[i][0] === change.operation);
      each.title = lacking(OPERATIONS[i]) || (able || kept.includes(OPERATIONS[i][0]) ? "" : changes.reason || AWAY);
      each.disabled = Boolean(each.title);
    });
    for (const [operation, list] of Object.entries(parameters)) {
      for (const [control, input, value] of list) {
        control.hidden = operation !== change.operation;
        if (input) { input.value = value(); input.nextElementSibling.textContent = String(value()).replace("-", "−"); }
      }
    }
    everyControl.querySelectorAll("button").forEach((each, i) => each.setAttribute("aria-pressed", Boolean(i) === change.every));
    section.classList.toggle("onecell", change.operation === "cell");
    const key = keyOf(question()), answer = answerTo(key);
    if (!opened && !answer && changes.answers.length) { // begin with what can be shown
      opened = true;
      choseAgain(changes.answers[0].question);
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
      const mine = keyOf(each.question) === key;
      element(keptList, "button", { type: "button", "aria-pressed": mine }, each.name).addEventListener("click", () => choseAgain(each.question));
    }
    changeNote.textContent = changes.note;
    gainControl.hidden = !answer;
    if (!answer || drawn?.answer !== answer) { // nothing else is shown in its place
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
      original.ready = Promise.all(changes.decoded.images.map(decodePicture));
    }
    if (drawn?.answer !== answer) drawn = { answer, pictures: null, ready: Promise.all(answer.images.map(decodePicture)) };
    const [base, mine] = [original, drawn];
    base.pictures ??= await base.ready;
    mine.pictures ??= await mine.ready;
    if (mine !== drawn || base !== original || state.tab !== "change" || keyOf(question()) !== key) return; // another was chosen meanwhile
    const index = Math.floor(state.at / changes.decoded.stride);
    const { height: tall, width: wide, stride } = changes.decoded;
    const first = pixelsOf(base.pictures[index]), second = pixelsOf(mine.pictures[index]);
    const map = new ImageData(wide, tall);
    for (let i = 0; i < first.data.length; i += 4) {
      let sum = 0;
      for (let c = i; c < i + 3; c += 1) {
        if (answer.differences) second.data[c] = (second.data[c] + first.data[c]) & 255; // was kept as a difference
        sum += Math.abs(second.data[c] - first.data[c]);
      }
      const level = 3 * Math.min(255, Math.round((sum / 3) * change.gain));
      map.data.set([errorScale[level], errorScale[level + 1], errorScale[level + 2], 255], i);
    }
    [[before, first], [after, second], [difference, map]].forEach(([{ canvas }, image]) => {
      if (canvas.width !== wide || canvas.height !== tall) Object.assign(canvas, { width: wide, height: tall });
      canvas.getContext("2d").putImageData(image, 0, 0);
    });
    const t = index * stride;
    before.title.textContent = `decoded, frame ${t}`;
    after.title.textContent = `changed, frame ${t}`;
    difference.title.textContent = `difference ×${change.gain}, RMS ${digits(answer.rms[t])}`;
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
