// The same viewers as a widget (anywidget's interface).
export default {
  render({ model, el }) {
    const root = document.createElement("div");
    el.append(root);
    return mountViewer(root, model.get("data")).close;
  },
};
