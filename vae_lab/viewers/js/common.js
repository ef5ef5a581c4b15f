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

// Buttons, one of them pressed. options: [[value, text], ...]; `choose` is called with the value.
function selectControl(parent, name, options, value, choose) {
  const control = element(parent, "label", { class: "control" }, name);
  const select = element(control, "select");
  for (const [option, text] of options) element(select, "option", { value: option }, text);
  select.value = value;
  select.addEventListener("change", () => choose(select.value));
  return control;
}

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

// A lossless WebP picture in base64, decoded once.
function decodePicture(image) {
  return createImageBitmap(new Blob([bytesOf(image)], { type: "image/webp" }), { colorSpaceConversion: "none" });
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
