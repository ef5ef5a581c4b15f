// What all viewers share: making elements, controls, and finding the viewers of a page.
function element(parent, name, attributes = {}, text = "") {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  parent.append(node);
  return node;
}

function shape(parent, name, attributes = {}, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  parent.append(node);
  return node;
}

function swatch(parent, colour, text) {
  element(parent, "span", { class: "swatch", style: `background:${colour}` });
  parent.append(text);
}

// A slider with its name and value; `input` is called with the number.
function sliderControl(parent, name, { min, max, step = 1, value }, input) {
  const label = element(parent, "label", { class: "control" }, name);
  const range = element(label, "input", { type: "range", min, max, step, value, "aria-label": name });
  const shown = element(label, "output", {}, String(value));
  range.addEventListener("input", () => { shown.textContent = range.value; input(Number(range.value)); });
  return range;
}

// A list to choose from. options: [[value, text], ...]; `choose` is called with the value, as text.
function selectControl(parent, name, options, value, choose) {
  const control = element(parent, "label", { class: "control" }, name);
  const select = element(control, "select");
  for (const [option, text] of options) element(select, "option", { value: option }, text);
  select.value = value;
  select.addEventListener("change", () => choose(select.value));
  return control;
}

// Buttons, one of them pressed. options: [[value, text], ...]; `choose` is called with the value.
function choiceControl(parent, name, options, value, choose) {
  const control = element(parent, "span", { class: "control" }, name);
  const group = element(control, "span", { class: "choice", role: "group", "aria-label": name || options[0][1] });
  const buttons = options.map(([option, text]) => {
    const button = element(group, "button", { type: "button", "aria-pressed": option === value }, text);
    button.addEventListener("click", (event) => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", other === button));
      choose(option);
      if (event.detail) button.closest(".vae-lab").focus({ preventScroll: true }); // so that the keys still work after a mouse click
    });
    return button;
  });
  return control;
}

// Calls draw(width) now and whenever the width of the element changes (in a notebook it is 0 at first).
function onWidth(root, draw) {
  let width = 0;
  const observer = new ResizeObserver(() => {
    const room = Math.floor(root.clientWidth) - 4;
    if (room > 0 && room !== width) draw((width = room));
  });
  observer.observe(root);
  return () => observer.disconnect();
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

// Decodes lossless WebP pictures in base64, in lists and lists of lists as they are given.
function decodeAll(images) {
  if (Array.isArray(images)) return Promise.all(images.map(decodeAll));
  return createImageBitmap(new Blob([bytesOf(images)], { type: "image/webp" }), { colorSpaceConversion: "none" });
}

// A row of a table: a name, and a text inside an element `tag` if one is given.
function tableLine(table, name, text, tag) {
  const row = element(table, "tr");
  element(row, "th", {}, name);
  const cell = element(row, "td", { "data-line": name });
  if (tag) element(cell, tag, {}, text);
  else cell.textContent = text;
}

// Left and right arrow, Home and End go through numbered things. `choose` is called with a number, also beyond their ends.
function onRowKeys(root, current, choose) {
  root.addEventListener("keydown", (event) => {
    if (event.target !== root || event.altKey || event.ctrlKey || event.metaKey) return;
    const next = { ArrowLeft: current() - 1, ArrowRight: current() + 1, Home: 0, End: Infinity }[event.key];
    if (next === undefined) return;
    choose(next);
    event.preventDefault();
  });
}

// Make `root` the viewer that data.kind names. link: to the kernel, if there is one. Returns {ready, close}.
function mountViewer(root, data, link) {
  root.classList.add("vae-lab");
  root.setAttribute("tabindex", "0");
  // Keep JupyterLab's shortcuts out: it looks for this attribute from the element with the focus outwards.
  root.addEventListener("focusin", (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true"));
  return { player: mountPlayer, padding: mountPadding, sizes: mountSizes, latents: mountLatents, flow: mountFlow }[data.kind](root, data, link);
}

// In a page: each viewer is a <section class="vae-lab"> that holds its data as JSON.
function mountAll() {
  return Promise.all([...document.querySelectorAll("section.vae-lab")].map((root) =>
    mountViewer(root, JSON.parse(root.querySelector("script").textContent)).ready));
}
