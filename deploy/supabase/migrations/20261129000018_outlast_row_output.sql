-- Outlast 18: reading the output of a generation's row.

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

-- The JSON text as jsonb; null if jsonb cannot hold it.
create or replace function public.outlast_to_jsonb(p_text text) returns jsonb
language plpgsql immutable security definer set search_path = '' as $$
begin
  return p_text::jsonb;
exception when data_exception or program_limit_exceeded then
  return null;
end $$;

revoke all on function public.outlast_to_jsonb(text)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_output(text, bigint) from public, anon, authenticated;
grant execute on function public.outlast_output(text, bigint) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261129000018')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
