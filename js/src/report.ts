// The script of a report (run.to_html): the same view as in a notebook, over the data of the file that it is in.

import { plain } from "./plain.ts";
import { ReportData } from "./report-data.ts";
import { ReportModel } from "./report-kernel.ts";
import factory from "./widget.ts";
import "./report.css";

function element(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the file has no element ${id}: it is not whole`);
  return found;
}

async function show(): Promise<void> {
  const data = await ReportData.open((name) => document.getElementById(`ltw-${name}`)?.textContent ?? null);
  const model = new ReportModel(data) as never;
  const widget = factory();
  widget.initialize({ model });
  const notes = element("ltw-notes");
  notes.replaceChildren(
    ...data.meta.notes.map((text) => {
      const note = document.createElement("p");
      note.textContent = plain(text);
      return note;
    }),
  );
  widget.render({ model, el: element("ltw-view") });
  // What is there for those without script is now said better above.
  element("ltw-static").hidden = true;
}

show().catch((error: unknown) => {
  const said = document.createElement("p");
  said.setAttribute("role", "alert");
  said.textContent = plain(
    `The interactive view could not be shown (${error instanceof Error ? error.message : String(error)}). Below is what can be said without it.`,
  );
  element("ltw-notes").append(said);
});
