// Latents in numbers: moments, posterior and the check of shift and scale; correlations and spectra.
function latentStatistics(lab, section) {
  const { data, state, choose, latent, names } = lab;
  const COLUMNS = [
    ["channel", "channel"], ["mean", "mean"], ["std", "std"], ["kurtosis", "excess kurtosis"], ["latents_mean", "assumed mean"], ["latents_std", "assumed std"],
    ["normalised_mean", "normalised mean"], ["normalised_std", "normalised std"], ["posterior_std", "posterior std"], ["kl", "KL, nats per element"],
    ["mean_variance", "variance of its mean"], ["active", "channel is"],
  ];
  const statistics = data.statistics, charts = {};
  const columnsHere = COLUMNS.filter(([key]) => key === "channel" || key in statistics.rows[0]);
  const table = element(element(section, "div", { class: "scroll" }), "table", { class: "numbers" });
  const headRow = element(element(table, "thead"), "tr");
  for (const [, title] of columnsHere) element(headRow, "th", { scope: "col" }, title);
  const body = element(table, "tbody");
  const channelRows = statistics.rows.map((row, c) => {
    const line = element(body, "tr");
    for (const [key] of columnsHere) {
      if (key === "channel") element(line, "th", { scope: "row" }, String(c));
      else element(line, "td", { "data-column": key }, key === "active" ? (row.active ? "active" : "dead") : digits(row[key]));
    }
    line.addEventListener("click", () => choose({ channel: c }));
    return line;
  });
  for (const text of statistics.notes) element(section, "p", { class: "note" }, text);
  element(section, "p", { class: "subject" });
  const momentCharts = element(section, "div", { class: "charts" });
  for (const key of ["mean", "std", "kurtosis"]) charts[key] = shape(momentCharts, "svg", { class: "chart" });

  function draw() {
    channelRows.forEach((row, c) => row.classList.toggle("chosen", c === state.channel));
    section.querySelector(".subject").textContent = `Each latent frame, over its cells; ${names[state.channel]} in orange.`;
    const wide = lab.room >= 720 ? Math.floor((lab.room - 24) / 3) : lab.room;
    const row = statistics.rows[state.channel];
    const references = { mean: [[row.latents_mean, "assumed"]], std: [[row.latents_std, "assumed"]], kurtosis: [[0, "Gaussian"]] };
    const titles = { mean: "mean", std: "standard deviation", kurtosis: "excess kurtosis" };
    for (const [key, svg] of Object.entries(charts)) {
      lineChart(svg, wide, 190, {
        title: titles[key], x: statistics.frames[key][0].map((_, l) => l * statistics.every), lines: statistics.frames[key], names, chosen: state.channel, colour: data.colours.latent,
        xLabel: "latent frame", whole: true, at: latent(), references: references[key].filter(([y]) => y !== undefined),
        none: "every channel is constant",
      });
    }
  }
  return { draw };
}

function latentRelations(lab, section) {
  const { data, state, choose, names } = lab;
  const relations = data.relations;
  const relationBox = element(section, "div", { class: "relations" });
  let drawn = null; // how the matrix was drawn last; a step in time does not redraw it
  const matrix = shape(relationBox, "svg", { class: "chart" });
  if (!relations.correlation) matrix.setAttribute("hidden", ""); // it was left out, and a note says so
  const curves = element(relationBox, "div", { class: "curves" });
  const [overLag, overSpace, overTime] = [0, 1, 2].map(() => shape(curves, "svg", { class: "chart" }));
  for (const text of relations.notes) element(section, "p", { class: "note" }, text);

  function draw() {
    const { room } = lab;
    const beside = room >= 760;
    const half = beside ? Math.floor(room * 0.46) : room;
    const look = `${half} ${state.channel}`;
    if (relations.correlation && look !== drawn) matrixChart(matrix, half, { title: "correlation between channels", values: relations.correlation, chosen: state.channel, colours: data.matrixColours }, (c) => choose({ channel: c }));
    drawn = look;
    const wide = beside && relations.correlation ? room - Math.min(half, Number(matrix.getAttribute("width"))) - 24 : room;
    const common = { names, chosen: state.channel, colour: data.colours.latent };
    lineChart(overLag, wide, 170, {
      ...common, title: "correlation over time", x: relations.autocorrelation[0].map((_, lag) => lag * relations.every), lines: relations.autocorrelation,
      xLabel: "lag, latent frames", whole: true, references: [[0, ""]],
    });
    lineChart(overSpace, wide, 170, { ...common, ...spectrum(relations.spatial), title: "power in space", logX: true });
    lineChart(overTime, wide, 170, { ...common, ...spectrum(relations.temporal), title: "power in time" });
  }
  const spectrum = ({ frequency, power, unit }) => ({ x: frequency, lines: power, xLabel: unit, logY: true, none: frequency.length ? "no power" : "one sample has no spectrum" });
  return { draw };
}
