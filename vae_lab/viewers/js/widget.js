// The same viewers as a widget (anywidget's interface). A request is a trait: while the kernel is busy ipywidgets keeps
// only the last one, so that requests do not queue up. Answers come as messages.
export default {
  render({ model, el }) {
    const link = {
      ask(request) {
        model.set("request", { number: performance.now(), request });
        model.save_changes();
      },
      listen(callback) {
        model.on("msg:custom", callback);
        return () => model.off("msg:custom", callback);
      },
    };
    let close = () => {};
    function mount() {
      close();
      el.replaceChildren();
      close = mountViewer(element(el, "div"), model.get("data"), link).close;
    }
    mount();
    model.on("change:data", mount);
    return () => {
      model.off("change:data", mount);
      close();
    };
  },
};
