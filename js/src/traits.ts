// The traits that both sides own: what is selected. Beside link.ts the only file that touches the model.

import type { AnyModel } from "@anywidget/types";
import { parseSelected, type Selected, type Selection } from "./selection.ts";

export interface SelectionTraits extends Record<string, unknown> {
  /** The selection as a whole. */
  selection: Selected;
  /** Parts of it, for jslink with a text field or a slider. */
  filter: string;
  step: number | null;
}

/** Keep the selection and the model's traits the same, whoever changes them; return what ends that. */
export function shareSelection(model: AnyModel<SelectionTraits>, selection: Selection): () => void {
  const fromModel = (): void => selection.set(parseSelected(model.get("selection")));
  const filterFromModel = (): void => selection.set({ filter: model.get("filter") ?? "" });
  const stepFromModel = (): void => {
    const step = model.get("step") ?? null;
    // "No step" while everything is followed says nothing new.
    if (step !== null || !selection.live) selection.set({ step });
  };
  const toModel = (now: Selected): void => {
    model.set("selection", now);
    model.set("filter", now.filter);
    model.set("step", now.step);
    model.save_changes();
  };
  fromModel();
  const stop = selection.listen(toModel);
  model.on("change:selection", fromModel);
  model.on("change:filter", filterFromModel);
  model.on("change:step", stepFromModel);
  return () => {
    stop();
    model.off("change:selection", fromModel);
    model.off("change:filter", filterFromModel);
    model.off("change:step", stepFromModel);
  };
}
