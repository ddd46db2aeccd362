-- Outlast 9: enqueueing the work that a sweep found.
--
-- Lock order in all functions: task, generation, objects by (bucket, path), the generation's row.

select public.outlast_start_change();

-- Inserts or updates the tasks of these jobs, so that the next sweep does not find them again soon. Returns the tasks
-- to publish: new tasks, and unfinished tasks without a valid lease. A task that has ended stays ended; only a submit
-- or a replay runs it again. A job without files is completed at once.
create or replace function public.outlast_requeue(p_jobs jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_job jsonb;
  t public.outlast_tasks;
  v_publish uuid[] := '{}';
  v_generation record;
  v_changed uuid[] := '{}';
begin
  for v_job in select value from jsonb_array_elements(p_jobs) order by value ->> 'task_id' loop
    t := public.outlast_record_task(public.outlast_task_of(v_job));
    if t.status = 'queued' and t.source_keys = '{}' then
      update public.outlast_tasks set status = 'completed', finished_at = now(), updated_at = now()
        where task_id = t.task_id returning * into t;
      v_changed := v_changed || t.task_id;
    elsif t.status in ('queued', 'running', 'retrying')
      and (t.lease_until is null or t.lease_until <= clock_timestamp())
    then
      update public.outlast_tasks set updated_at = now() where task_id = t.task_id;
      v_publish := v_publish || t.task_id;
      v_changed := v_changed || t.task_id;
    elsif t.status = 'completed' then
      v_changed := v_changed || t.task_id;  -- the task may belong to another output now
    end if;
  end loop;
  for v_generation in select distinct binding, generation_id from public.outlast_tasks
      where task_id = any (v_changed) and generation_id is not null order by 1, 2 loop
    perform public.outlast_write_media(v_generation.binding, v_generation.generation_id, false);
  end loop;
  return jsonb_build_object('publish', to_jsonb(v_publish));
end $$;

revoke all on function public.outlast_requeue(jsonb) from public, anon, authenticated;
grant execute on function public.outlast_requeue(jsonb) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261101000009')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
