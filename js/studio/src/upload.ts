import type { Api } from '@safelight/client';
import { Problem, Unreachable } from '@safelight/client';

/** Where the server wants the bytes (M5). `url` null: it has them already, by hash or by content. */
interface UploadTicket {
  readonly id: string;
  readonly upload?: {
    readonly method?: string;
    readonly url: string;
    readonly headers?: Record<string, string>;
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
  if (data.upload) {
    const { method = 'PUT', url, headers = {} } = data.upload;
    let answer: Response;
    try {
      answer = await fetch(url, { method, headers: { 'content-type': file.type, ...headers }, body: file });
    } catch (error) {
      throw new Unreachable('The picture could not be sent.', { cause: error });
    }
    if (!answer.ok) throw new Problem(answer.status, 'upload_failed', 'The picture could not be stored.');
  }
  return data.id;
}
