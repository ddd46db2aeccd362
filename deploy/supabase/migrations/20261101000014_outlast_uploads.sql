-- Outlast 14: open resumable uploads, so that any worker can continue one after a crash.
--
-- Storage discards an unfinished upload after a day (self-hosted: after an hour), so a row is valid for one day.

select public.outlast_start_change();

create table if not exists public.outlast_uploads (
  bucket text not null,
  path text not null,
  upload_id text not null,
  created_at timestamptz not null default now(),
  primary key (bucket, path)
);

select public.outlast_add_index(name, on_columns) from (values
  ('outlast_uploads_created', 'outlast_uploads (created_at)')
) as i (name, on_columns);

select public.outlast_protect_table('public.outlast_uploads');

-- Deletes the recorded upload if it is `p_gone`; records `p_opened` if none is recorded; returns the recorded upload.
create or replace function public.outlast_upload(
  p_bucket text, p_path text, p_opened text default null, p_gone text default null
) returns jsonb language plpgsql security definer set search_path = '' as $$
begin
  delete from public.outlast_uploads
    where bucket = p_bucket and path = p_path and (upload_id = p_gone or created_at < now() - interval '1 day');
  if p_opened is not null then
    delete from public.outlast_uploads where ctid in (
      select ctid from public.outlast_uploads where created_at < now() - interval '1 day'
      limit 100 for update skip locked);
    insert into public.outlast_uploads (bucket, path, upload_id) values (p_bucket, p_path, p_opened)
      on conflict (bucket, path) do nothing;
  end if;
  return jsonb_build_object('upload_id', (
    select upload_id from public.outlast_uploads where bucket = p_bucket and path = p_path));
end $$;

revoke all on function public.outlast_upload(text, text, text, text) from public, anon, authenticated;
grant execute on function public.outlast_upload(text, text, text, text) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261101000014')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
