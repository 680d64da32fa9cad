// What applications do with the AWS SDK for JavaScript, version 3. Prints what it found as JSON.
import { createHash } from 'node:crypto';
import { createReadStream, readFileSync } from 'node:fs';
import * as s3 from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';

const [bucket, prefix, path, partSize] = process.argv.slice(2);
const part = Number(partSize);
const client = new s3.S3Client({ forcePathStyle: true });
const data = readFileSync(path);
const at = (name) => ({ Bucket: bucket, Key: prefix + name });
const send = (Command, input) => client.send(new s3[`${Command}Command`](input));
const sha256 = (body) => createHash('sha256').update(body).digest('hex');
const read = async (name, more = {}) => Buffer.from(await (await send('GetObject', { ...at(name), ...more })).Body.transformToByteArray());
const said = {};

// In parts, from a stream, with a content type and metadata.
const headers = { ContentType: 'application/x-claviger-test', Metadata: { color: 'blue' } };
await new Upload({ client, params: { ...at('large'), Body: createReadStream(path), ...headers }, partSize: part, queueSize: 4 }).done();
const head = await send('HeadObject', at('large'));
said.head = [head.ContentLength, head.ContentType, head.Metadata];
said.large = sha256(await read('large'));
said.range = (await read('large', { Range: `bytes=${part - 10}-${part + 9}`, IfMatch: head.ETag })).equals(data.subarray(part - 10, part + 10));

// One request, with a checksum that the SDK checks on the way back.
await send('PutObject', { ...at('small'), Body: data.subarray(0, 100_000), ChecksumAlgorithm: 'SHA256' });
said.small = sha256(await read('small', { ChecksumMode: 'ENABLED' })) === sha256(data.subarray(0, 100_000));
try {
  await send('PutObject', { ...at('small'), Body: 'other', IfNoneMatch: '*' });
  said.condition = 'replaced';
} catch (error) {
  said.condition = error.name;
}

// On the server: whole, and in parts.
await send('CopyObject', { ...at('copied'), CopySource: encodeURIComponent(`${bucket}/${prefix}large`) });
said.copied = sha256(await read('copied'));
const { UploadId } = await send('CreateMultipartUpload', at('assembled'));
const parts = [];
for (let start = 0; start < data.length; start += part) {
  const CopySourceRange = `bytes=${start}-${Math.min(start + part, data.length) - 1}`;
  const PartNumber = parts.length + 1;
  const answer = await send('UploadPartCopy', { ...at('assembled'), UploadId, PartNumber, CopySourceRange, CopySource: `${bucket}/${prefix}large` });
  parts.push({ PartNumber, ETag: answer.CopyPartResult.ETag });
}
const there = await send('ListParts', { ...at('assembled'), UploadId });
said.parts = there.Parts.map((one) => one.Size);
await send('CompleteMultipartUpload', { ...at('assembled'), UploadId, MultipartUpload: { Parts: parts } });
said.assembled = sha256(await read('assembled'));

// An upload that is given up.
const upload = new Upload({ client, params: { ...at('aborted'), Body: createReadStream(path) }, partSize: part });
upload.on('httpUploadProgress', () => upload.abort());
said.aborted = await upload.done().then(() => 'done', (error) => error.name);

// Presigned; as applications have to, without the checksum of the body that is not there yet.
const signing = new s3.S3Client({ forcePathStyle: true, requestChecksumCalculation: 'WHEN_REQUIRED' });
const url = await getSignedUrl(client, new s3.GetObjectCommand(at('large')), { expiresIn: 300 });
said.presigned = sha256(Buffer.from(await (await fetch(url)).arrayBuffer()));
const put = await getSignedUrl(signing, new s3.PutObjectCommand(at('by url')), { expiresIn: 300 });
said.put = (await fetch(put, { method: 'PUT', body: 'by url' })).status;

// Many keys.
for (let number = 0; number < 30; number += 1) {
  await send('PutObject', { ...at(`many/${String(number).padStart(2, '0')}`), Body: 'x'.repeat(number) });
}
said.many = [];
for await (const page of s3.paginateListObjectsV2({ client, pageSize: 7 }, { Bucket: bucket, Prefix: `${prefix}many/` })) {
  said.many.push(...page.Contents.map((entry) => entry.Size));
}
const Objects = said.many.map((_, number) => ({ Key: `${prefix}many/${String(number).padStart(2, '0')}` }));
said.deleted = (await send('DeleteObjects', { Bucket: bucket, Delete: { Objects } })).Deleted.length;
said.left = (await send('ListObjectsV2', { Bucket: bucket, Prefix: prefix })).Contents.map((entry) => entry.Key.slice(prefix.length));
said.missing = await send('GetObject', at('many/00')).catch((error) => error.name);
console.log(JSON.stringify(said));
