import { newJobId, type Template, useModels, useProject, useTemplates } from '@safelight/react';
import { ArrowUp, Plus, Trash2 } from 'lucide-react';
import { type FormEvent, useState } from 'react';
import { toast } from 'sonner';
import { failing } from '../acts';
import { settings } from '../request';
import { go } from '../route';
import { blanksOf, filled, labelOf, slugOf, templateInput } from '../template';
import { FieldControl } from './FieldControl';

/** Models and inputs with blanks, to be filled again and again. */
export function TemplatesPage() {
  const { templates, loaded, reread } = useTemplates();
  const [making, setMaking] = useState(false);
  return (
    <section className="page" aria-busy={!loaded}>
      <header className="page-head">
        <h1>Templates</h1>
        <button type="button" className="button strong push" onClick={() => setMaking(!making)}>
          <Plus size={15} aria-hidden="true" />
          New template
        </button>
      </header>
      {making && (
        <Editor
          onDone={() => {
            setMaking(false);
            reread();
          }}
        />
      )}
      {loaded && templates.length === 0 && !making && (
        <p className="nothing">
          A template is a prompt with blanks, like <code>{'A poster for {BRAND}'}</code>. Make one, and fill
          it in.
        </p>
      )}
      <ul className="templates">
        {templates.map((template) => (
          <Fill key={template.slug} template={template} onGone={reread} />
        ))}
      </ul>
    </section>
  );
}

function Fill({ template, onGone }: { readonly template: Template; readonly onGone: () => void }) {
  const room = useProject();
  const { models } = useModels();
  const [values, setValues] = useState<Readonly<Record<string, string>>>({});
  const model = models.find(({ id }) => id === template.model);
  const missing = template.variables.filter((name) => !values[name]?.trim());

  function submit(event: FormEvent): void {
    event.preventDefault();
    const id = newJobId(room.serverNow());
    const input = { ...template.input, prompt: filled(template, values) };
    room.submit({ id, model: template.model, input, n: 1, template: template.slug, variables: values });
    toast('Being made', { action: { label: 'Show', onClick: () => go({ page: 'gallery' }) } });
  }

  return (
    <li className="template" data-template={template.slug}>
      <form onSubmit={submit}>
        <header>
          <b>{template.name}</b>
          <small>{model?.name ?? template.model}</small>
          <button
            type="button"
            className="icon push"
            aria-label={`Delete ${template.name}`}
            onClick={() => {
              room.api
                .call('DELETE', `/v1/projects/${room.project}/templates/${template.slug}`)
                .then(onGone, failing('Not deleted'));
            }}
          >
            <Trash2 size={15} aria-hidden="true" />
          </button>
        </header>
        <p className="template-words">{filled(template, values)}</p>
        <div className="template-fields">
          {template.variables.map((name) => (
            <label key={name}>
              <span>{labelOf(name)}</span>
              <input
                className="field"
                name={name}
                value={values[name] ?? ''}
                maxLength={2_000}
                onChange={(event) => setValues({ ...values, [name]: event.target.value })}
              />
            </label>
          ))}
        </div>
        <button type="submit" className="button strong" disabled={missing.length > 0}>
          Generate
          <ArrowUp size={15} aria-hidden="true" />
        </button>
      </form>
    </li>
  );
}

function Editor({ onDone }: { readonly onDone: () => void }) {
  const room = useProject();
  const { models } = useModels();
  const usable = models.filter(({ enabled, needs_start }) => enabled && !needs_start);
  const [name, setName] = useState('');
  const [modelId, setModelId] = useState('');
  const [prompt, setPrompt] = useState('');
  const [fields, setFields] = useState<Readonly<Record<string, unknown>>>({});
  const model = usable.find(({ id }) => id === modelId) ?? usable[0];
  const blanks = blanksOf(prompt);

  function save(event: FormEvent): void {
    event.preventDefault();
    if (!model) return;
    const body = { slug: slugOf(name), name, model: model.id, input: templateInput(model, prompt, fields) };
    room.api
      .call('POST', `/v1/projects/${room.project}/templates`, { body })
      .then(onDone, failing('Not saved'));
  }

  return (
    <form className="template editor" onSubmit={save}>
      <label>
        <span>Name</span>
        <input
          className="field"
          required
          value={name}
          maxLength={100}
          onChange={(e) => setName(e.target.value)}
        />
      </label>
      <label>
        <span>Model</span>
        <select
          className="field"
          value={model?.id ?? ''}
          onChange={(event) => setModelId(event.target.value)}
        >
          {usable.map((each) => (
            <option key={each.id} value={each.id}>
              {each.name}
            </option>
          ))}
        </select>
      </label>
      <label className="whole">
        <span>Prompt, with blanks in braces</span>
        <textarea
          className="field"
          required
          rows={3}
          placeholder="A poster for {BRAND}, in the style of {STYLE}"
          value={prompt}
          maxLength={10_000}
          onChange={(event) => setPrompt(event.target.value)}
        />
      </label>
      <div className="editor-fields whole">
        {settings(model).map((field) => (
          <FieldControl
            key={`${model?.id} ${field.name}`}
            field={field}
            value={fields[field.name]}
            onChange={(value) => setFields((now) => ({ ...now, [field.name]: value }))}
          />
        ))}
      </div>
      <p className="whole hint">
        {blanks.length > 0 ? `Asks for: ${blanks.map(labelOf).join(', ')}` : 'No blanks yet.'}
      </p>
      <button type="submit" className="button strong">
        Save template
      </button>
    </form>
  );
}
