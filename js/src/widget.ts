// The widget: what is known of a run is kept for each model, what is seen of it for each view.

import type { AnyModel } from "@anywidget/types";
import { makeChart } from "./chart.ts";
import { makeControls } from "./controls.ts";
import { makeEpisodes } from "./episodes.ts";
import { makeGrid } from "./grid.ts";
import { openLink } from "./link.ts";
import type { Page } from "./page.ts";
import { plain } from "./plain.ts";
import { RunState } from "./run-state.ts";
import { scheduled } from "./schedule.ts";
import { Selection } from "./selection.ts";
import { makeStatus } from "./status.ts";
import { makeSteps } from "./steps.ts";
import { makeTableBar } from "./table-bar.ts";
import { filterTables, TableState } from "./table-state.ts";
import { makeTabs } from "./tabs.ts";
import { watchTheme } from "./theme.ts";
import { type SelectionTraits, shareSelection } from "./traits.ts";
import "./style.css";

interface Traits extends SelectionTraits {
  title: string;
  /** Names the model: hosts hand a new proxy of it to each call, so the object itself says nothing. */
  view_id: string;
}
type Model = AnyModel<Traits>;

/** One view of a run in `el`; returns what takes it away without a trace. */
export function renderView(page: Page, model: Pick<Model, "get" | "on" | "off">, el: HTMLElement): () => void {
  const { run } = page;
  const root = document.createElement("section");
  root.className = "ltw";
  root.dataset.testid = "ltw-root";
  // JupyterLab's own keys are not for what happens in here.
  root.dataset.lmSuppressShortcuts = "true";
  const frame = document.createElement("div");
  frame.className = "ltw-frame";
  root.append(frame);
  el.append(root);

  const retitle = (): void => root.setAttribute("aria-label", plain(model.get("title") || "Live telemetry"));
  retitle();
  model.on("change:title", retitle);

  const theme = watchTheme(root, () => {
    grid.repaint();
    chart.repaint();
  });
  const status = makeStatus(run, root);
  const controls = makeControls(page);
  status.element.firstElementChild?.after(controls.element);
  const grid = makeGrid(page, theme);
  const chart = makeChart(page, theme);
  const steps = makeSteps(page);
  const episodes = makeEpisodes(page);
  const bar = makeTableBar(page);
  const tabs = makeTabs(
    [
      { title: "Steps", table: steps },
      { title: "Episodes", table: episodes },
    ],
    bar.element,
  );
  frame.append(status.element, grid.element, chart.element, tabs.element);

  const parts = [status, controls, grid, chart, bar, steps, episodes];
  const update = scheduled(() => {
    for (const part of parts) part.update();
  });
  const stopListening = run.listen(() => update.request());
  for (const part of parts) part.update();

  return () => {
    stopListening();
    update.close();
    for (const part of parts) part.close();
    tabs.close();
    theme.close();
    model.off("change:title", retitle);
    root.remove();
  };
}

/** A host may call the factory once for many models. */
export default () => {
  const pages = new Map<string, Page>();
  return {
    initialize({ model }: { model: Model }): () => void {
      const run = new RunState();
      const selection = new Selection();
      const id = model.get("view_id");
      const stopSharing = shareSelection(model as never, selection);
      const link = openLink(model, run);
      const tables = { steps: new TableState("steps", run, link), episodes: new TableState("episodes", run, link) };
      const stopFilter = filterTables(selection, Object.values(tables));
      pages.set(id, { run, selection, tables, link });
      run.connect(link);
      return () => {
        pages.delete(id);
        stopSharing();
        stopFilter();
        for (const table of Object.values(tables)) table.close();
        link.close();
        selection.close();
        run.close();
      };
    },
    render({ model, el }: { model: Model; el: HTMLElement }): () => void {
      const page = pages.get(model.get("view_id"));
      if (!page) throw new Error("render was called for a model that was not initialised");
      return renderView(page, model, el);
    },
  };
};
