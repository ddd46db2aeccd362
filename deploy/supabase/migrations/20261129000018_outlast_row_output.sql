-- Outlast 18: reading the output of a generation's row, and writing its media.

select public.outlast_start_change();

-- The output of a generation as JSON text, and its size in bytes; both null without a row. The text is null when it has
-- more than `p_max_bytes`. It is text, because a `json` column can contain what jsonb cannot: \u0000, lone surrogates.
create or replace function public.outlast_output(
  p_generation_id text, p_max_bytes bigint, out output text, out bytes bigint
) language plpgsql security definer set search_path = '' as $$
declare
  g record;
  v_text text;
begin
  select * into g from public.outlast_generations();
  if g.id_name is null or g.output_name is null or p_generation_id is null then
    return;
  end if;
  select format(case when t.typcategory <> 'A' and coalesce(nullif(t.typbasetype, 0), t.oid) in (
      'json'::regtype, 'jsonb'::regtype) then 'g.%I::text' else 'to_jsonb(g.%I)::text' end, g.output_name)
    into v_text from pg_attribute a join pg_type t on t.oid = a.atttypid
    where a.attrelid = g.rel and a.attname = g.output_name and not a.attisdropped;
  -- The stored size, which may be compressed, is compared first: a larger value is not even read.
  execute format('select case when pg_column_size(g.%1$I) <= $2 then %2$s end, pg_column_size(g.%1$I) from %3$s g'
                 ' where g.%4$I = $1::%5$s', g.output_name, v_text, g.rel, g.id_name, g.id_type)
    into output, bytes using p_generation_id, p_max_bytes;
  bytes := coalesce(octet_length(output), bytes);
  if bytes > p_max_bytes then
    output := null;
  end if;
exception when data_exception then
  output := null;
  bytes := null;
end $$;

-- Writes media_status and, unless `p_status_only`, media to the generation's row, if there is one. The row stays
-- unchanged while the generation has no task of the row's owner. Raises whatever the row refuses; waits briefly for its
-- lock.
create or replace function public.outlast_update_row(p_generation_id text, p_status_only boolean) returns void
language plpgsql security definer set search_path = '' set lock_timeout = '3s' as $$
declare
  g record;
  m record;
  v_request text;
  v_owner text;
  v_id text;
begin
  select * into g from public.outlast_generations();
  if g.id_name is null then
    return;
  end if;
  begin
    execute format('select g.%I::text, %s, %s from %s g where g.%I = $1::%s for update', g.id_name,
                   public.outlast_column(g.request_name), public.outlast_column(g.user_name), g.rel,
                   g.id_name, g.id_type)
      into v_id, v_request, v_owner using p_generation_id;
  exception when data_exception then
    return;
  end;
  if v_id is null then
    return;
  end if;
  select * into m from public.outlast_media(p_generation_id, v_request, v_owner);
  if m.media is null then
    return;
  end if;
  execute format(
    'update %s g set media_status = $2, media = case when $3 then g.media else $1 end where g.%I = $4::%s'
    ' and (g.media_status is distinct from $2 or (not $3 and g.media is distinct from $1))',
    g.rel, g.id_name, g.id_type
  ) using m.media, m.media_status, p_status_only, p_generation_id;
end $$;

-- Pre-release versions without the owner. The function above was the last to call them.
drop function if exists public.outlast_media(text, text), public.outlast_current_tasks(text, text);

-- The JSON text as jsonb; null if jsonb cannot hold it.
create or replace function public.outlast_to_jsonb(p_text text) returns jsonb
language plpgsql immutable security definer set search_path = '' as $$
begin
  return p_text::jsonb;
exception when data_exception or program_limit_exceeded then
  return null;
end $$;

revoke all on function public.outlast_to_jsonb(text), public.outlast_update_row(text, boolean)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_output(text, bigint) from public, anon, authenticated;
grant execute on function public.outlast_output(text, bigint) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261129000018')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
