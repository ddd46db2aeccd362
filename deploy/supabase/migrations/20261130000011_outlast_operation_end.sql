-- Outlast: a report of progress that arrives after the end of an operation does not make the operation run again. Such
-- a report was sent before the end, but its request was slower, or was cancelled by the sender while on its way.

select public.outlast_start_change();

-- Records an operator's operation and its progress. Returns who asked to abort it. Rows are kept for a year.
create or replace function public.outlast_operation(p_operation jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  o public.outlast_operations := jsonb_populate_record(null::public.outlast_operations, p_operation);
begin
  insert into public.outlast_operations as old (id, verb, by, target, state, matched, done, kept, detail, ended_at)
    values (o.id, o.verb, o."by", coalesce(o.target, '{}'), o.state, coalesce(o.matched, 0), coalesce(o.done, 0),
            coalesce(o.kept, '[]'), o.detail, case when o.state <> 'running' then clock_timestamp() end)
    on conflict (id) do update set state = excluded.state, matched = excluded.matched, done = excluded.done,
      kept = excluded.kept, detail = excluded.detail, updated_at = clock_timestamp(), ended_at = excluded.ended_at
      where old.state = 'running' or excluded.state <> 'running'
    returning * into o;
  with gone as (delete from public.outlast_operations where started_at < now() - interval '1 year' returning id)
    delete from public.outlast_replayed r using gone where r.operation_id = gone.id;
  return jsonb_build_object('abort', o.abort_asked_by);
end $$;

insert into public.outlast_settings (key, value) values ('version', '20261130000011')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
