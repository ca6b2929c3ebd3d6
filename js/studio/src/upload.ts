import { type Api, Problem, readProblem, Unreachable } from '@safelight/react';

/** Where the server wants the bytes (M5); no `upload` means that it has them already. */
interface UploadTicket {
  readonly id: string;
  readonly upload?: {
    readonly method?: string;
    readonly url: string;
    /** Bytes the server has from an earlier try. */
    readonly offset?: number;
    readonly max_chunk?: number;
  } | null;
}

/** Refused before a byte is sent. The server has its own limit and the last word. */
export const UPLOAD_MAX_BYTES = 50_000_000;

/** Stores a start image; answers with its id. Raises Problem or Unreachable. */
export async function uploadImage(api: Api, project: string, file: File): Promise<string> {
  if (!file.type.startsWith('image/')) throw new Problem(422, 'invalid_input', 'That is not a picture.');
  if (file.size > UPLOAD_MAX_BYTES) throw new Problem(413, 'too_large', 'That picture is larger than 50 MB.');
  const body = { filename: file.name, mime: file.type, bytes: file.size };
  const { data } = await api.call<UploadTicket>('POST', `/v1/projects/${project}/uploads`, { body });
  if (!data.upload) return data.id;

  let id = data.id;
  const { method = 'PUT', url, max_chunk = file.size } = data.upload;
  for (let offset = data.upload.offset ?? 0; offset < file.size; offset += max_chunk) {
    const headers = {
      'content-type': file.type,
      'upload-offset': String(offset),
      'safelight-client': api.instanceId,
    };
    let answer: Response;
    try {
      answer = await fetch(url, { method, headers, body: file.slice(offset, offset + max_chunk) });
    } catch (error) {
      throw new Unreachable('The picture could not be sent.', { cause: error });
    }
    if (!answer.ok) throw await readProblem(answer);
    // The same bytes may be there already, under another id.
    id = ((await answer.json()) as UploadTicket).id;
  }
  return id;
}
